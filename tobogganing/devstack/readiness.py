"""Waiting until a service of the local run is ready."""

import asyncio
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable

POLL = 0.1
REMIND_AFTER = 5.0
"""Seconds without readiness after which a line says what is missing."""


async def wait_until_ready(url: str, write_line: Callable[[str], None]) -> None:
    """Wait until a URL responds 200."""
    loop = asyncio.get_running_loop()
    remind_at = loop.time() + REMIND_AFTER
    while why_not := await asyncio.to_thread(_why_not_ready, url):
        if loop.time() > remind_at:
            write_line(f"still waiting for {url}: {why_not}")
            remind_at = loop.time() + REMIND_AFTER
        await asyncio.sleep(POLL)


def _why_not_ready(url: str) -> str:
    """The reason why a URL does not respond 200, else an empty text.

    Uses no proxy. Accepts any certificate, since nothing secret is sent: the service's own
    certificate need not be valid for this machine's loopback address.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=2):
            return ""
    except urllib.error.HTTPError as error:
        return error.read(500).decode(errors="replace").strip() or str(error)
    except OSError as error:
        return str(error)
