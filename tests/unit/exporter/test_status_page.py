"""The status page: no external resources, escaped text, current figures."""

import base64
import hashlib
import re

from contract.ledger import LedgerRow, ledger_key
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.registry_state import RegistryState
from contract.row import ROW_VERSION, encode_row
from exporter.state.store import StateStore
from exporter.status_page import Link, figures_table, is_loopback, status_page
from service.config.settings import KafkaSettings
from service.kafka.tailer import TopicTailer
from tests.unit.exporter.model import make_row


def build(waiting_for: list[str], links: list[Link]) -> tuple[str, dict[str, str]]:
    store = StateStore([0, 1])
    for n in range(1234):
        store.apply(0, f"client:c-{n}".encode(), encode_row(make_row()))
    ledger = LedgerRow(ROW_VERSION, 9, read=5678, applied=5678, lost=7)
    store.apply(1, ledger_key(1), encode_row(ledger))
    registered = RegistryState()
    record = RegistryRecord(RECORD_VERSION, "cluster", "eu", revision=0, name="eu")
    registered.apply(0, b"cluster:eu", encode_record(record))
    settings = KafkaSettings(kafka_bootstrap_servers="localhost:1")
    tailer = TopicTailer(settings, "entity-state", [0, 1], lambda *_: None)
    response = status_page(waiting_for, figures_table(store, registered, tailer), links)
    return bytes(response.body).decode(), dict(response.headers)


def test_figures_are_current() -> None:
    html, _ = build([], [])
    assert "<b>1,234</b><span>clients with values</span>" in html
    assert "<b>1</b><span>clusters registered</span>" in html
    assert "<td>5,678</td>" in html
    assert "Ready" in html


def test_losses_stand_out() -> None:
    html, headers = build([], [])
    assert "<b>0</b><span>dead letters</span>" in html
    assert '<b class="bad">7</b><span>frames lost</span>' in html
    assert "refresh" not in headers, "the script renews the figures"


def test_the_first_steps_are_shown_until_there_is_a_client() -> None:
    tailer = TopicTailer(KafkaSettings(kafka_bootstrap_servers="-:1"), "-", [0], lambda *_: None)
    store = StateStore([0])
    assert "Waiting for the first report" in figures_table(store, None, tailer)
    store.apply(0, b"client:a", encode_row(make_row()))
    assert "Waiting for the first report" not in figures_table(store, None, tailer)


def test_the_reasons_for_waiting_are_shown() -> None:
    html, _ = build(["kafka", "registry"], [])
    assert "Waiting for kafka, registry" in html
    assert "Ready" not in html


def test_everything_is_escaped() -> None:
    html, _ = build(["<b>"], [Link('/"><script>', "a & <i>")])
    assert "&lt;b&gt;" in html
    assert 'href="/&quot;&gt;&lt;script&gt;"' in html
    assert "a &amp; &lt;i&gt;" in html
    assert html.count("<script") == 1, "its own"


def test_what_browsers_cannot_open_is_no_link() -> None:
    html, _ = build([], [Link("/metrics", "for Prometheus", in_browsers=False)])
    assert "<code>/metrics</code>" in html
    assert 'href="/metrics"' not in html


def test_no_external_resources_are_loaded() -> None:
    html, headers = build([], [Link("/metrics", "")])
    own = ["/checkins/static/icon.svg", "/checkins/static/checkins.js", "/metrics"]
    assert re.findall(r'(?:href|src)="([^"]*)"', html) == own
    assert "url(" not in html
    assert "://" not in html
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy


def test_figures_are_shown_only_on_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example")] == [False] * 4
