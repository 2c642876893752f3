"""The check-in page in a real Chromium, on the running pipeline."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)

from service.config.settings import KafkaSettings
from tests.debian import chromium
from tests.integration.demo_fleet import HOSTILE, Demo, create_fleet
from tests.integration.gateways import a_manager
from tests.integration.processes import METRICS_TOKEN, Service
from tests.integration.shared import shared_services
from tools.debian import Program

pytestmark = shared_services("checkins_browser")

SCREENSHOTS = os.environ.get("CHECKINS_SCREENSHOTS")
"""Folder for screenshots; set it to docs to update those of the documentation."""
PHONE = ViewportSize(width=390, height=844)
SOON = 5_000
"""Milliseconds within which a submission must show."""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return chromium(tmp_path_factory.mktemp("chromium"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def manager(
    shared_settings: KafkaSettings, shared_folder: Path, shared_signing_keys: str
) -> AsyncIterator[Service]:
    async with (
        Service("processor", shared_settings, shared_folder, WORKER_NAME="only") as processor,
        a_manager(shared_settings, shared_folder, shared_signing_keys, processor) as manager,
    ):
        yield manager


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(program: Program) -> AsyncIterator[Browser]:
    environ = program.environ | {"FONTCONFIG_FILE": str(program.path.parent / "fonts.conf")}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program.path,
            env={**environ},
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(manager: Service) -> Demo:
    return await create_fleet(manager)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def closed_pages(browser: Browser) -> AsyncIterator[None]:
    """Close the pages of a test, which request news of the manager."""
    yield
    for context in browser.contexts:
        await context.close()


async def open_page(context: BrowserContext, faults: list[str]) -> Page:
    """Open a page that notes every error of its scripts and every violation of its policy."""
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: faults.append(message.text) if message.type == "error" else None,
    )
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    return page


async def sign_in(page: Page, url: str, token: str = METRICS_TOKEN) -> None:
    await page.goto(url)
    await page.get_by_label("Token").fill(token)
    async with page.expect_navigation():
        await page.get_by_role("button", name="Sign in").click()


async def check_accessible(page: Page) -> None:
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def screenshot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


async def test_an_operator_finds_a_client(manager: Service, browser: Browser, demo: Demo) -> None:
    faults: list[str] = []
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await open_page(context, faults)
    await page.goto(manager.url + "/checkins?state=never")
    await check_accessible(page)
    await screenshot(page, "checkins-sign-in")
    await page.get_by_label("Token").fill("not-the-token-of-the-tests")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    await check_accessible(page)
    faults.clear()  # the browser reports the 401s
    await page.get_by_label("Token").fill(METRICS_TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(manager.url + "/checkins?state=never")
    await expect(page.locator("tbody tr")).to_have_count(1)
    assert METRICS_TOKEN not in page.url
    (cookie,) = await context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert METRICS_TOKEN not in cookie["value"]

    # A client comes online within seconds, without a reload.
    await page.goto(manager.url + "/checkins")
    await expect(page.locator("#count-never")).to_have_text("1")
    before = int(await page.locator("#count-online").inner_text())
    marked = await page.evaluate("window.marked = 1")
    response = await manager.http.post(
        f"/api/v1/clients/{demo.new_client}/metrics",
        json={"metrics": {"bytes_sent": 1, "connection_uptime": 60}},
        headers={"authorization": f"Bearer {demo.new_key}"},
    )
    assert response.status_code == 200, response.text
    submitted = time.monotonic()
    await expect(page.locator("#count-online")).to_have_text(str(before + 1), timeout=SOON)
    assert time.monotonic() - submitted < SOON / 1000
    assert await page.evaluate("window.marked") == marked, "the page was loaded again"
    await expect(page.locator("#announce")).to_contain_text("online")
    await check_accessible(page)
    await screenshot(page, "checkins")

    # Pause keeps the page as it is.
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Resume")).to_be_visible()

    # Names are text, whatever they contain.
    await page.keyboard.press("/")
    await page.keyboard.type("<SCRIPT>")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody th a")).to_have_text(HOSTILE)
    await page.get_by_label("Search").fill("invoice")
    await page.keyboard.press("Enter")
    shown = "invoice\N{REPLACEMENT CHARACTER}fdp.exe"
    await expect(page.locator("tbody th bdi")).to_have_text(shown)
    await check_accessible(page)

    # An entity's page says why it is silent.
    await page.get_by_label("Search").fill("c-0000")
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name=HOSTILE).click()
    await expect(page.get_by_role("heading", name="Why is it silent?")).to_be_visible()
    await expect(page.locator(".why")).to_contain_text("It reported, then stopped")
    await expect(page.locator(".why")).to_contain_text("Registered")
    await check_accessible(page)

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    assert await context.cookies() == []
    assert [fault for fault in faults if "401" not in fault] == []


async def test_pages_follow_each_other(manager: Service, browser: Browser, demo: Demo) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await sign_in(page, manager.url + "/checkins?sort=name&limit=10")
    shown: list[str] = []
    while True:
        shown += await page.locator("tbody th").all_inner_texts()
        following = page.get_by_role("link", name="Next page")
        if not await following.count():
            break
        address = await following.get_attribute("href")
        await following.click()
        await page.wait_for_url(manager.url + str(address))
        await expect(page.locator("caption")).to_contain_text("continued")
    assert len(shown) == demo.clients
    assert shown == sorted(shown, key=str.casefold)

    await page.get_by_role("link", name="Tobogganing").click()
    await expect(page.get_by_text("clients with values")).to_be_visible()
    await check_accessible(page)
    await screenshot(page, "front-page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_phones_and_the_dark(
    manager: Service, browser: Browser, demo: Demo, scheme: str
) -> None:
    dark = scheme == "dark"
    context = await browser.new_context(
        viewport=PHONE, color_scheme="dark" if dark else "light", device_scale_factor=2
    )
    page = await context.new_page()
    await sign_in(page, manager.url + "/checkins?kind=headends")
    for path in ("/checkins?kind=headends", "/checkins?kind=clusters", "/checkins/clients/c-0011"):
        await page.goto(manager.url + path)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{path} is wider than a phone"
        await check_accessible(page)
    await page.goto(manager.url + "/checkins?kind=headends")
    await screenshot(page, f"checkins-phone-{scheme}")
    await page.set_viewport_size({"width": 1280, "height": 800})
    await check_accessible(page)
    await screenshot(page, f"checkins-headends-{scheme}")
    await page.goto(manager.url + "/checkins/headends/headend-fra1-1")
    await check_accessible(page)
    await screenshot(page, f"checkins-entity-{scheme}")


async def test_it_works_without_scripts(manager: Service, browser: Browser, demo: Demo) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await sign_in(page, manager.url + "/checkins")
    await expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    await page.get_by_role("navigation", name="Kinds").get_by_role("link", name="Headends").click()
    await page.get_by_label("Region").select_option("eu-central")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("tbody tr")).to_have_count(4)
    await page.locator("a.tile.online").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Token")).to_be_visible()
