"""Clocks that are set while a gateway runs, by libfaketime from Debian's package."""

import asyncio
import email.utils
import itertools
import signal
import time

import aiohttp

from tests.chaos.credentials import Keeper
from tests.chaos.installation import Service
from tests.chaos.stage import NotHereError, Stage
from tobogganing.local import debian
from tobogganing.local.errors import LocalError

JUMP = (600.0, 200_000.0)
"""Seconds: at least and at most. Beyond a day, tokens end."""
STAY = 3.0
SWEPT = 62.0
"""Seconds after which a gateway has looked for registry records that have ended."""
CLOCK_READ = 1
"""Seconds after which libfaketime looks again."""
PATIENCE = 10.0


async def gateway_clock_jumps(stage: Stage) -> None:
    """A gateway's clock goes far ahead, then far back, then right again.

    No answer may change by that, and no credential: tokens are revoked and keys rotated at both
    gateways meanwhile, and checked at both.
    """
    gateway = stage.chance.choice(stage.installation.gateways)
    urls = [each.url for each in stage.installation.gateways]
    offset = gateway.folder / "clock"
    offset.write_text("+0")
    gateway.extra = {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": str(CLOCK_READ),
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    try:
        await gateway.member.restart(signal.SIGTERM)
        await stage.installation.until_ready(gateway)
        ahead, behind = stage.chance.uniform(*JUMP), stage.chance.uniform(*JUMP)
        async with aiohttp.ClientSession() as http:
            keeper = Keeper(stage.model.credentials, http)
            for seconds, stay in ((ahead, SWEPT), (-behind, STAY), (0.0, STAY)):
                offset.write_text(f"{seconds:+.0f}")
                await _shows(gateway, seconds)
                stage.tell(f"{gateway.member.name} is {seconds:+.0f} s off")
                for here, there in itertools.permutations(urls):
                    await keeper.change(here, there)
                await keeper.check(urls)
                await asyncio.sleep(stay)
                await keeper.check(urls)
    finally:
        gateway.extra = {}
    await gateway.member.restart(signal.SIGTERM)
    await stage.installation.until_ready(gateway)
    async with aiohttp.ClientSession() as http:
        await Keeper(stage.model.credentials, http).check(urls)


def _library() -> str:
    """libfaketime, fetched where it is missing.

    Raises:
        NotHereError: it cannot be had.
    """
    try:
        (folder,) = debian.unpacked("libfaketime")
    except LocalError as error:
        raise NotHereError(str(error)) from error
    return str(next(folder.rglob("libfaketime.so.1")))


async def _shows(gateway: Service, ahead: float) -> None:
    """Wait until a gateway's own clock, as its answers say, is so far ahead."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as http:
        while True:
            async with http.get(gateway.url + "/-/healthy") as answer:
                date = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
            if abs(date - time.time() - ahead) < 5:
                return
            await asyncio.sleep(0.1)
