"""The page at `/`: links and current figures.

It loads one script, of the check-in page, which renews the figures without a reload.
"""

import base64
import hashlib
import time
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from ipaddress import ip_address
from typing import NamedTuple

from starlette.responses import HTMLResponse, Response

from contract.kinds import CLIENT, HEADEND
from contract.registry import CLUSTER
from contract.registry_state import RegistryState
from exporter.checkins.words import duration
from exporter.metrics import PIPELINE_FAMILIES
from exporter.state.store import StateStore
from service.kafka.tailer import TopicTailer
from service.metrics.requests import DISTRIBUTION

STYLE = """
:root {
  color-scheme: light dark;
  --back: #f4f6f9; --card: #fff; --line: #d9dee6; --text: #17202b; --soft: #5b6675;
  --link: #0b5cad; --good: #12703c; --bad: #a8320f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0f1319; --card: #171c24; --line: #2c3440; --text: #e6ebf2; --soft: #97a3b4;
    --link: #6db3ff; --good: #52c98a; --bad: #ff9470;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text) }
body { font: 16px/1.5 system-ui, sans-serif }
main { max-width: 54rem; margin: 0 auto; padding: 2.5rem 1.25rem }
h1 { font-size: 1.6rem; margin: 0 }
h2 { font-size: 1rem; margin: 2rem 0 .6rem; color: var(--soft) }
.state { font-weight: 600; margin: .25rem 0 }
.good { color: var(--good) }
.bad { color: var(--bad) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem }
.soft { color: var(--soft); margin: 0 }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
[hidden] { display: none }
#pause { float: right; font: inherit; color: inherit; background: var(--card); cursor: pointer }
#pause { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .8rem }
.steps { padding: .8rem 1rem }
.steps p { margin: 0 0 .5rem }
pre { margin: 0; overflow-x: auto }
.cards div, ul, .table, .steps {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
}
.cards div { padding: .8rem 1rem }
.cards b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums }
.cards span { color: var(--soft); font-size: .85rem }
ul { list-style: none; margin: 0; padding: 0 }
li { padding: .6rem 1rem }
li + li { border-top: 1px solid var(--line) }
li span { color: var(--soft); font-size: .9rem; margin-left: .5rem }
a { color: var(--link) }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .5rem 1rem; text-align: right; white-space: nowrap }
th { color: var(--soft); font-weight: 500 }
td { border-top: 1px solid var(--line) }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tobogganing metrics</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<link rel="icon" type="image/svg+xml" href="/checkins/static/icon.svg">'
    f'<style>{STYLE}</style><script src="/checkins/static/checkins.js" defer></script></head>'
    "<body><main>"
)


_FIRST_STEPS = """<h2>First steps</h2><div class="steps">
<p>Waiting for the first report. Register a client, or start a simulated fleet:</p>
<pre>tobogganing clients add --help
tobogganing simulate --clients 100 --headends 2</pre></div>"""

_STARTED = time.monotonic()


class Link(NamedTuple):
    """One entry of the list of links."""

    path: str
    text: str
    in_browsers: bool = True
    """False if it needs a Bearer credential, which browsers do not send."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to a server that listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def status_page(waiting_for: Sequence[str], figures: str, links: Sequence[Link]) -> Response:
    """Build the page; `figures` is the HTML from `figures_table`, or empty."""
    summary = "Waiting" if waiting_for else "Ready"
    body = [
        "<h1>Tobogganing metrics</h1>",
        '<button type="button" id="pause" hidden aria-pressed="false">Pause</button>',
        f'<div id="live" data-summary="{summary}">',
        _state(waiting_for),
        figures,
        '</div><p id="announce" class="hidden" role="status" aria-live="polite"></p>',
        "<h2>Links</h2><ul>",
        *(_item(link) for link in links),
        "</ul></main></body></html>",
    ]
    return HTMLResponse(_HEAD + "".join(body), headers=_HEADERS)


def figures_table(store: StateStore, registered: RegistryState | None, state: TopicTailer) -> str:
    """Render current figures as HTML, those of the registry only if it is available.

    /metrics serves the same figures only with a token, so show them only on loopback addresses.
    """
    figures = {
        "clients with values": store.entities(CLIENT.name),
        "headends with values": store.entities(HEADEND.name),
    }
    if registered:
        kinds = (CLIENT.name, HEADEND.name, CLUSTER)
        figures |= {f"{kind}s registered": registered.count(kind) for kind in kinds}
    losses = {
        "dead letters": sum(row.dead_lettered for row in store.ledgers.values()),
        "frames lost": sum(row.lost for row in store.ledgers.values()),
    }
    lag = state.lag()
    ledger = [
        (partition, *(getattr(row, field) for field in PIPELINE_FAMILIES), lag.get(partition, 0))
        for partition, row in sorted(store.ledgers.items())
    ]
    fields = [field.replace("_", " ") for field in PIPELINE_FAMILIES]
    return "".join(
        [
            f'<p class="soft">Version {version(DISTRIBUTION)}, up for ',
            f"{duration(time.monotonic() - _STARTED)}</p>",
            "" if figures["clients with values"] else _FIRST_STEPS,
            '<h2>Now</h2><div class="cards">',
            *(_figure(text, number) for text, number in figures.items()),
            *(_figure(text, number, is_bad=number > 0) for text, number in losses.items()),
            "</div><h2>Submissions by partition</h2>",
            _table(["partition", *fields, "rows to read"], ledger),
        ]
    )


def _state(waiting_for: Sequence[str]) -> str:
    if waiting_for:
        return f'<p class="state bad">Waiting for {escape(", ".join(waiting_for))}</p>'
    return '<p class="state good">Ready</p>'


def _figure(text: str, number: int, *, is_bad: bool = False) -> str:
    marked = ' class="bad"' if is_bad else ""
    return f"<div><b{marked}>{number:,}</b><span>{escape(text)}</span></div>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[int]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell:,}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


def _item(link: Link) -> str:
    path = escape(link.path)
    shown = f'<a href="{path}">{path}</a>' if link.in_browsers else f"<code>{path}</code>"
    return f"<li>{shown}<span>{escape(link.text)}</span></li>"
