"""Seeds of the fuzzers: valid and almost valid examples of everything, made by the
product's code."""

import gzip
import itertools
import json
from collections.abc import Iterator

from backports import zstd

from contract.dead_letter import DeadLetterSource, encode_source
from contract.evidence import Evidence, EvidenceReason, encode_evidence
from contract.frame import Frame, Submission, encode_frame
from contract.kinds import KINDS
from contract.ledger import LedgerRow, RecordCut, encode_ledger_row
from contract.position import Position, Receipt
from contract.registry import RegistryRecord, encode_record
from contract.row import ROW_VERSION, EntityRow, encode_position, encode_row
from tests.fuzz.connection import END, PAUSE
from tests.fuzz.gateway import API_KEY, RELAY_KEY, records
from tests.fuzz.targets import NOW

_METRICS: dict[str, dict[str, int | float]] = {
    kind.name: {metric.field: 7 for metric in kind.metrics} for kind in KINDS.values()
}
_NUMBERS = [
    b"0",
    b"-0.0",
    b"1.5",
    b"1e3",
    b"1e400",
    b"9" * 19,
    b"9" * 400,
    b"true",
    b'"1"',
    b"null",
]


def frames() -> Iterator[bytes]:
    """Yield frames with all fields of a submission, of this version and another one."""
    for kind, metrics in _METRICS.items():
        full = Submission(
            kind, kind[0], 3, {"name": 'a"\\\n'}, {"headless": "false"}, metrics, float(NOW)
        )
        removed = Submission(kind, kind[0], 4, removed=True)
        yield encode_frame(2**53, [full, removed, full])
        yield encode_frame(1, [full]).replace(b'"version":1', b'"version":2')
        for number in _NUMBERS:
            yield encode_frame(2**53, [full]).replace(b":7", b":" + number)
    yield encode_frame(0, [])


def evidences() -> Iterator[bytes]:
    """Yield keys and values of evidence, and some that do not belong together."""
    for kind in KINDS:
        for reason in EvidenceReason:
            full = Evidence(
                *(1, kind, "a.b-c", "gateway-1", reason, 3, 5, NOW),
                network="192.0.2.0/24",
                detail='a"\\\n',
                receipt="0-1-2-3",
                incarnation=7,
            )
            yield full.key + b"\n" + encode_evidence(full)
            other = Evidence(1, kind, "d", "processor", reason, 1, 1, 1)
            yield full.key + b"\n" + encode_evidence(other)
            for number in _NUMBERS:
                value = encode_evidence(other).replace(b'"count":1', b'"count":' + number)
                yield other.key + b"\n" + value


def large_frames() -> Iterator[bytes]:
    """Yield frames that make rows and dead letters too large for a Kafka record."""

    def frame(*submissions: Submission) -> bytes:
        return encode_frame(2**53, submissions)

    def client(id: str, **labels: str) -> Submission:
        return Submission("client", id, 3, labels, metrics={"bytes_sent": 7})

    yield frame(client("one", name="x" * 2_000_000))
    yield frame(client("one", name="\x01" * 150_000))
    for number in range(3):  # each fits, together they do not
        yield frame(client("merged", **{f"label-{number}": "x" * 200_000}))
    yield frame(*[client("together", **{f"label-{n}": "x" * 150_000}) for n in range(5)])
    numbers = {f"m{n}": 7 for n in range(60_000)}
    yield frame(Submission("client", "numbers", 3, metrics={**numbers})).replace(b":7", b":1e15")
    for kind, id in (("x" * 600_000, "a"), ("client", "x" * 600_000), ("client", "")):
        yield frame(Submission(kind, id, 3, {"name": "x" * 600_000}))
    yield frame(*[Submission("nothing", "known", 3)] * 3_000)
    yield frame(*[client("many", name="x" * (n % 2 * 1_000_000)) for n in range(20)])
    yield frame(client("flaps", name="x" * 300_000), client("flaps", name="y" * 300_000))
    yield frame(client("flaps", name="x" * 300_000), client("flaps", name="y" * 300_000))
    yield b"[" * 600_000
    yield frame(client("one")).replace(b":7", b":" + b"9" * 4_300)


def rows() -> Iterator[bytes]:
    """Yield rows, ledgers, positions and registry records."""
    for metrics in _METRICS.values():
        yield encode_row(EntityRow(ROW_VERSION, 1, 2, 3, 4, 5.5, {"name": "n"}, {**metrics}))
    yield encode_row(EntityRow(ROW_VERSION, 1, 2, 3, 4, 5.5, removed=True))
    yield encode_ledger_row(LedgerRow(ROW_VERSION, 9, 4, 1, 1, 1, 1, 1))
    cut = RecordCut(3, 0, 1_700_000_000_000)
    yield encode_ledger_row(LedgerRow(ROW_VERSION, 9, 4, 1, 1, 1, 1, 1, cut=cut))
    yield encode_position(Position(12, 3))
    for record in records():
        yield encode_record(record)


def headers() -> Iterator[bytes]:
    """Yield dead-letter headers, one per line, and receipts."""
    yield b"\n".join(value for _, value in encode_source(DeadLetterSource("no frame", 1, 2, 3, 4)))
    yield str(Receipt(1, 22, 333)).encode()


def submissions() -> Iterator[bytes]:
    """Yield bodies of single submissions and of backlogs."""
    for kind in KINDS.values():
        body: dict[str, object] = {"metrics": _METRICS[kind.name], "timestamp": NOW}
        labels = [label for label in kind.labels if label.submitted]
        body |= {each.field: True if each.submitted == "boolean" else "x" for each in labels}
        yield json.dumps(body).encode()
        yield json.dumps({"samples": [body, body]}).encode()
        yield json.dumps({"metrics": {"unknown": {"a": [1, {}]}}, "other": None}).encode()
        yield json.dumps({"metrics": dict.fromkeys(map(str, range(1_001)), 1)}).encode()
        yield json.dumps(body | {"headend_name": "a\u2028b"}, ensure_ascii=False).encode()
        yield b'{"samples":[%b1]}' % (b"1," * 10_001)
        for number in _NUMBERS:
            yield json.dumps(body).encode().replace(b": 7", b": " + number)


def batches() -> Iterator[bytes]:
    """Yield arrays and lines."""
    items = [
        json.dumps({"kind": kind, "id": kind[0], "metrics": metrics}).encode()
        for kind, metrics in _METRICS.items()
    ]
    yield b"[%b]" % b",".join(items)
    yield b"\n".join(items)
    yield b"[1,{},%b,[[]]]" % items[0]
    yield b'\n\n{"kind":"x","id":""}\n%b\n' % items[1]
    yield b"\r\n".join(items)
    yield b" ".join(items)
    yield b"\r".join(items) + b"\n\x0c" + items[0]
    yield b"\n".join(items).replace(b",", b",\n")
    yield b"\n".join(items).replace(b", ", b"\n,") + b"\n" + b"".join(items)
    names = json.dumps({str(number): number for number in range(1_001)}).encode()
    yield b'[{"kind":"client","id":"c","metrics":%b}]' % names
    yield b"[%b%b]" % (items[0], b"," * 11_000)


def packed() -> Iterator[bytes]:
    """Yield compressed bodies: of one member and of several, bombs, and truncated ones."""
    for body in (*itertools.islice(submissions(), 3), bytes(500_000)):
        for pack in (gzip.compress, zstd.compress):
            yield pack(body)
            yield pack(body)[:-3]
            yield pack(body) + pack(body)


def requests() -> Iterator[bytes]:
    """Yield requests: complete, in pieces, pipelined, chunked, too large, and invalid."""
    json_body = b'{"metrics":{"bytes_sent":1}}'
    fields = b"Host: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n"
    for path, key, body in (
        (b"/api/v1/clients/c/metrics", API_KEY, json_body),
        (b"/api/v1/headends/h/metrics", API_KEY, json_body),
        (b"/api/v1/metrics", RELAY_KEY, b"[" + next(batches())[1:]),
        (b"/api/v1/auth/token", "x", b'{"node_id":"h","node_type":"headend","api_key":"k"}'),
        (b"/api/v1/clients/register", "x", b'{"name":"n","type":"native"}'),
        (b"http://x:99999/%ff?", API_KEY, json_body),
    ):
        head = b"POST %b HTTP/1.1\r\n" % path + fields % key.encode()
        whole = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        chunk = b"%x\r\n%b\r\n" % (len(body), body)
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
        yield whole
        yield whole * 3
        yield whole[:-5] + PAUSE + whole[-5:]
        yield whole[:-5]
        yield whole[:20] + PAUSE + whole[20:] + PAUSE + whole
        yield chunked + b"0\r\n\r\n" + whole
        yield chunked + PAUSE + chunk * 3
        yield whole.replace(b"Host", b"Expect: 100-continue\r\nHost")
        yield whole.replace(b"Host", b"Content-Encoding: gzip\r\nHost")
        yield whole.replace(b"HTTP/1.1", b"HTTP/1.0")
        yield whole.replace(b"Bearer", b"Bearer ey..")
        yield whole + END
        yield whole * 2 + whole[:-5] + END
        yield whole + b"rubbish\r\n\r\n"
        inner = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
        for offer in (b"Connection: Upgrade", b"Connection: Upgrade, HTTP2-Settings"):
            upgrade = offer + b"\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nHost"
            yield whole.replace(b"Host", upgrade) + inner
            yield (chunked + b"0\r\n\r\n").replace(b"Host", upgrade) + inner
            yield b"%bContent-Length: %d\r\n\r\n" % (head, len(inner)) + PAUSE + inner + inner
        yield chunked + b"0\r\nAuthorization: Bearer %b\r\nX: y\r\n\r\n" % key.encode() + inner
    for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"CONNECT", b"FOO"):
        for path in (b"/api/v1/openapi.json", b"/", b"*", b"x:1", b"/api/v1/clients?limit=1"):
            yield b"%b %b HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" % (
                method,
                path,
            )
    yield b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    yield b"GET / HTTP/1.1\r\nCookie"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00"


SEEDS = {
    "frame": frames,
    "reduced": frames,
    "row": rows,
    "evidence": evidences,
    "header": headers,
    "submission": submissions,
    "batch": batches,
    "packed": packed,
    "request": requests,
}


def words() -> Iterator[bytes]:
    """Yield words for the fuzzers' dictionary: names and the syntax of JSON and HTTP."""
    for kind in KINDS.values():
        yield from (metric.field.encode() for metric in kind.metrics)
        yield from (label.field.encode() for label in kind.labels if label.submitted)
    for struct in (Frame, Submission, EntityRow, LedgerRow, RegistryRecord):
        yield from (field.encode() for field in struct.__struct_fields__)
    yield from (
        b'":',
        b'","',
        b"[{",
        b"}]",
        b"},{",
        b"null",
        b"true",
        b"\\u0000",
        b"\\ud800",
        *_NUMBERS,
    )
    yield from (b"samples", b"client", b"headend", b"\r\n", b"\r\n\r\n", PAUSE, END, b"0\r\n\r\n")
    yield from (b"GET ", b"POST ", b"HEAD ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"/api/v1/")
    yield from (b"Content-Length: ", b"Transfer-Encoding: chunked", b"Content-Encoding: zstd")
    yield from (b"Authorization: Bearer ", b"Connection: close", b"Expect: 100-continue")
    yield from (b"Connection: upgrade\r\nUpgrade: x\r\n", b"Host: x\r\n", b"CONNECT ", b"http://x")
    yield from (b"Content-Type: application/x-ndjson", b"Content-Type: application/json")
