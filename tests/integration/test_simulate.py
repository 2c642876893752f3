"""The simulated fleet against the real services."""

import asyncio
import os
import re
import signal
import sys

from tests.integration.command_line import CommandLine, all_of
from tests.integration.processes import ADMIN_TOKEN, Service
from tests.waiting import pause


async def simulate(
    url: str, *options: str, token: str = ADMIN_TOKEN, stop_after_line: str = ""
) -> tuple[int, str]:
    """Run `tobogganing simulate`; return exit status and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tobogganing", "simulate", "--url", url, "--seed", "1", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"ADMIN_TOKEN": token},
    )
    assert process.stdout is not None
    output = b""
    async with asyncio.timeout(60):
        while stop_after_line and stop_after_line.encode() not in output:
            line = await process.stdout.readline()
            assert line, output
            output += line
        if stop_after_line:
            process.send_signal(signal.SIGINT)
        output += await process.stdout.read()
        return await process.wait(), output.decode()


FLEET = ("--clients", "40", "--headends", "6", "--interval", "0.5")


async def test_a_scrape_has_every_accepted_report_and_other_runs_say_how_they_ended(
    manager: Service,
) -> None:
    status, output = await simulate(manager.url, *FLEET, "--duration", "2")
    assert status == 0, output
    accepted = int(re.findall(r"^accepted +(\d+)", output, re.MULTILINE)[0])
    assert accepted >= 46 * 2
    receipts = re.findall(r"^last receipts +(.*)$", output, re.MULTILINE)[0].split()
    assert len(receipts) == 4
    text = (await manager.scrape(*receipts)).text
    check_ins = re.findall(r"^tobogganing_(\w+)_last_check_in_timestamp\{", text, re.MULTILINE)
    assert sorted(check_ins) == ["client"] * 40 + ["headend"] * 6
    read = re.findall(r"^tobogganing_pipeline_read_total\{.*\} (\S+)$", text, re.MULTILINE)
    assert sum(float(count) for count in read) == accepted

    status, output = await simulate(manager.url, *FLEET, "--duration", "1")
    assert status == 0, "registered ids get a suffix: " + output

    status, output = await simulate(manager.url, *FLEET, stop_after_line="registered 46 in")
    assert "last receipts" in output
    assert "Traceback" not in output
    assert status == (0 if "accepted       0" not in output else 1)

    status, output = await simulate(manager.url, *FLEET, token="wrong")
    assert status == 1
    assert "the credential is refused (401): check ADMIN_TOKEN" in output
    assert "Traceback" not in output


async def test_an_outage_is_survived(manager: Service) -> None:
    """The manager restarts: agents repeat their requests, and nothing else fails."""
    fleet = ("--clients", "30", "--headends", "0", "--interval", "20", "--duration", "16")
    playing = asyncio.create_task(simulate(manager.url, *fleet))
    while "tobogganing_client_last_check_in_timestamp{" not in (await manager.scrape()).text:
        assert not playing.done(), playing.result()
        await pause()
    await manager.end(signal.SIGKILL)
    await manager.start()
    status, output = await playing
    assert status == 0, output
    assert re.search(r"^no response +[1-9]", output, re.MULTILINE), output


async def test_one_command_removes_what_simulations_registered(manager: Service) -> None:
    for _ in range(2):  # the second one registers its agents with a suffix
        _, output = await simulate(manager.url, *FLEET, "--duration", "0.1")
        assert "registered 46 in" in output, output
    command = CommandLine(manager.url)
    keep = ("clients", "add", "A client", "--type", "native", "--id", "sim-client-own")
    await command.good(*keep)
    ended = await command("simulate", "--remove", "--yes")
    assert ended.status == 0, ended
    assert "removed: 97" in ended.err, "2 * 46 agents and 5 clusters"
    assert [each["client_id"] for each in await all_of(command, "clients")] == ["sim-client-own"]
    assert await all_of(command, "headends") == await all_of(command, "clusters") == []
    assert "removed: 0" in (await command.good("simulate", "--remove")).err
