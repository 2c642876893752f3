"""Submission bodies: valid ones are decoded exactly, all others raise BodyError."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.kinds import CLIENT, HEADEND, MAX_METRIC_VALUE, is_text
from gateway.body.json import MAX_IGNORED_LENGTH, MAX_IGNORED_NAMES, BodyError
from gateway.ingest.decoder import BodyDecoder

NOW = 1_800_000_000.0
client = BodyDecoder(CLIENT)
headend = BodyDecoder(HEADEND)


def metrics(value: str, field: str = "bytes_sent") -> bytes:
    return f'{{"metrics":{{"{field}":{value}}}}}'.encode()


def test_the_guides_client_body() -> None:
    body = client.decode_field_by_field(
        b"""{
          "headless": false,
          "metrics": {
            "bytes_sent": 1048576,
            "bytes_received": 2097152,
            "packets_sent": 1000,
            "packets_received": 1500,
            "connection_uptime": 3600
          }
        }""",
        NOW,
    )
    assert body.labels == {"headless": "false"}
    assert body.timestamp is None
    assert body.ignored == []
    assert body.metrics == {
        "bytes_sent": 1048576,
        "bytes_received": 2097152,
        "packets_sent": 1000,
        "packets_received": 1500,
        "connection_uptime": 3600.0,
    }
    assert isinstance(body.metrics["connection_uptime"], float)


def test_the_guides_headend_body() -> None:
    body = headend.decode_field_by_field(
        b'{"headend_name": "headend-us-east-1", "metrics": {"active_connections": 150,'
        b'"bandwidth_in": 10485760, "bandwidth_out": 5242880, "cpu_usage": 45.2,'
        b'"memory_usage": 2147483648}}',
        NOW,
    )
    assert body.labels == {"name": "headend-us-east-1"}
    assert body.metrics["cpu_usage"] == 45.2
    assert body.metrics["memory_usage"] == 2147483648


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("60.0", 60),
        ("1.048576e+06", 1048576),
        ("1E2", 100),
        ("1e-400", 0),
        ("9223372036854775808", 2**63),
        ("9.223372036854775808e18", 2**63),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_integers_may_be_sent_as_integers_or_floats(text: str, value: int) -> None:
    got = client.decode_field_by_field(metrics(text), NOW).metrics["bytes_sent"]
    assert got == value
    assert isinstance(got, int)


@pytest.mark.parametrize(
    ("text", "value"), [("0.25", 0.25), ("3600", 3600.0), ("-0.0", 0.0), ("1e-400", 0.0)]
)
def test_floats_are_accepted(text: str, value: float) -> None:
    got = client.decode_field_by_field(metrics(text, "connection_uptime"), NOW).metrics[
        "connection_uptime"
    ]
    assert isinstance(got, float)
    assert got == value
    assert math.copysign(1, got) == 1


@pytest.mark.parametrize("field", ["bytes_sent", "connection_uptime"])
@pytest.mark.parametrize(
    "text",
    [
        '"1"',
        '""',
        "true",
        "false",
        "null",
        "{}",
        '{"value":1}',
        "[]",
        "[1]",
        "-1",
        "-0.5",
        "9223372036854775809",
        "9.3e18",
        "1e30",
        "18446744073709551616",
        "9" * 400,
        "9" * 5000,
        "1e400",
        "-1e400",
    ],
)
def test_invalid_metric_values_are_refused(field: str, text: str) -> None:
    with pytest.raises(BodyError) as error:
        client.decode_field_by_field(metrics(text, field), NOW)
    assert error.value.field == f"metrics.{field}"


def test_a_fraction_is_not_an_integer() -> None:
    with pytest.raises(BodyError, match="whole number") as error:
        client.decode_field_by_field(metrics("1.5"), NOW)
    assert error.value.field == "metrics.bytes_sent"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b"1",
        b'"metrics"',
        b"{",
        b'{"metrics":{}',
        b'{"metrics":{}}}',
        b'{"metrics":{}} x',
        b"{'metrics':{}}",
        b'{"metrics":{},}',
        b'\xef\xbb\xbf{"metrics":{}}',
        b'{"metrics":{"bytes_sent":NaN}}',
        b'{"metrics":{"bytes_sent":Infinity}}',
        b'{"metrics":{"bytes_sent":-Infinity}}',
        b'{"metrics":{"bytes_sent":01}}',
        b'{"metrics":{"bytes_sent":1.}}',
        b'{"metrics":{"bytes_sent":+1}}',
        b'{"metrics":{"bytes_sent":0x1}}',
        b'{"metrics":{},"\xff":1}',
        b'{"metrics":{"unknown":"\xff"}}',
        b'{"metrics":{},"other":"\xc0\x80"}',
        b'{"metrics":{"unknown\\ud800":1}}',
        b'{"metrics":{},"other":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"metrics":{"unknown":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}}",
        b"[" * 60_000,
        '{"metrics":{}}'.encode("utf-16"),
    ],
)
def test_invalid_submissions_are_refused(body: bytes) -> None:
    with pytest.raises(BodyError) as error:
        client.decode_field_by_field(body, NOW)
    assert error.value.field == "body"


@pytest.mark.parametrize(
    "body", [b"{}", b'{"metrics":null}', b'{"metrics":[]}', b'{"metrics":1}', b'{"headless":true}']
)
def test_metrics_are_required_and_must_be_an_object(body: bytes) -> None:
    with pytest.raises(BodyError) as error:
        client.decode_field_by_field(body, NOW)
    assert error.value.field == "metrics"


def test_empty_metrics_are_a_check_in() -> None:
    body = client.decode_field_by_field(b'{"metrics":{}}', NOW)
    assert (body.metrics, body.labels, body.ignored) == ({}, {}, [])


@pytest.mark.parametrize("value", ["1", "0", '"false"', "null", "[]", "{}"])
def test_headless_is_a_boolean(value: str) -> None:
    with pytest.raises(BodyError) as error:
        client.decode_field_by_field(f'{{"headless":{value},"metrics":{{}}}}'.encode(), NOW)
    assert error.value.field == "headless"


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "a\nb", "a\x00", "\x7f", "a\x85", 7, True, None, ["a"], {}]
)
def test_headend_names_are_text(name: Any) -> None:
    with pytest.raises(BodyError) as error:
        headend.decode_field_by_field(
            json.dumps({"headend_name": name, "metrics": {}}).encode(), NOW
        )
    assert error.value.field == "headend_name"


@pytest.mark.parametrize("name", ["x" * 255, "Zürich 東京 🛷", 'quote " and \\', " "])
def test_a_headend_name_may_be_any_text(name: str) -> None:
    body = headend.decode_field_by_field(
        json.dumps({"headend_name": name, "metrics": {}}).encode(), NOW
    )
    assert body.labels == {"name": name}


def test_other_fields_are_ignored_silently() -> None:
    body = client.decode_field_by_field(
        b'{"metrics":{},"version":"1.2","headend_name":3,"timestamp":5}', NOW
    )
    assert (body.ignored, body.labels, body.timestamp) == ([], {}, 5.0)


@pytest.mark.parametrize("value", ["1", "null", '"text"', "[1,{}]", "1e400", "-5", "true"])
def test_unknown_metrics_are_reported_whatever_their_values(value: str) -> None:
    body = client.decode_field_by_field(
        f'{{"metrics":{{"zulu":{value},"bytes_sent":7,"alpha":1}}}}'.encode(), NOW
    )
    assert body.metrics == {"bytes_sent": 7}
    assert body.ignored == ["alpha", "zulu"]
    assert body.ignored_count == 2


def test_invalid_metrics_are_refused_despite_unknown_ones() -> None:
    with pytest.raises(BodyError) as error:
        client.decode_field_by_field(b'{"metrics":{"unknown":1,"bytes_sent":"x"}}', NOW)
    assert error.value.field == "metrics.bytes_sent"


def test_the_reported_unknown_names_are_bounded() -> None:
    names = {f"{number:03}{'x' * 200}": 1 for number in range(100)}
    body = client.decode_field_by_field(json.dumps({"metrics": names}).encode(), NOW)
    assert len(body.ignored) == MAX_IGNORED_NAMES
    assert all(len(name) == MAX_IGNORED_LENGTH for name in body.ignored)
    assert body.ignored_count == 100


@pytest.mark.parametrize("timestamp", ["0", "1", "1800000000.25", "1800000300"])
def test_timestamps_are_accepted(timestamp: str) -> None:
    body = client.decode_field_by_field(f'{{"metrics":{{}},"timestamp":{timestamp}}}'.encode(), NOW)
    assert body.timestamp == float(timestamp)


@pytest.mark.parametrize(
    "timestamp", ["-1", "1800000300.1", "1800000000000", "null", '"1"', "true", "1e400", "[]"]
)
def test_invalid_timestamps_are_refused(timestamp: str) -> None:
    with pytest.raises(BodyError) as error:
        client.decode_field_by_field(f'{{"metrics":{{}},"timestamp":{timestamp}}}'.encode(), NOW)
    assert error.value.field == "timestamp"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_decoded(body: bytes) -> None:
    for decoder in (client, headend):
        with contextlib.suppress(BodyError):
            decoder.decode_field_by_field(body, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3)
    ),
    max_leaves=5,
)
some_names = st.sampled_from([metric.field for metric in CLIENT.metrics]) | st.text(max_size=20)


@given(
    st.dictionaries(some_names, json_values, max_size=5),
    st.sampled_from(["headless", "timestamp", "other"]),
    json_values,
)
def test_accepted_bodies_agree_with_an_independent_decoder(
    sent: dict[str, Any], other: str, value: Any
) -> None:
    """An independent decoder: Python's json, and each rule written out."""
    text = json.dumps({"metrics": sent, other: value})
    try:
        body = client.decode_field_by_field(text.encode(), NOW)
    except BodyError:
        assert not is_fine(text)
        return
    assert is_fine(text)
    known = {metric.field for metric in CLIENT.metrics}
    assert body.metrics == {name: number for name, number in sent.items() if name in known}
    assert body.ignored == sorted(name[:MAX_IGNORED_LENGTH] for name in sent.keys() - known)
    assert body.labels == ({"headless": str(value).lower()} if other == "headless" else {})
    assert body.timestamp == (value if other == "timestamp" else None)


def is_fine(text: str) -> bool:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def is_metric(name: str, value: Any) -> bool:
        whole = name == "connection_uptime" or not is_number(value) or value == int(value)
        return is_number(value) and 0 <= value <= MAX_METRIC_VALUE and whole

    try:
        text.encode()
        document = json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    if "\\ud" in text and not _surrogates_pair(document):
        return False
    known = {metric.field for metric in CLIENT.metrics}
    return (
        all(is_metric(name, v) for name, v in document["metrics"].items() if name in known)
        and isinstance(document.get("headless", True), bool)
        and (
            "timestamp" not in document
            or (is_number(document["timestamp"]) and 0 <= document["timestamp"] <= NOW + 300)
        )
    )


def _surrogates_pair(document: Any) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.text(max_size=300))
def test_a_name_is_accepted_if_and_only_if_it_is_valid_text(name: str) -> None:
    body = json.dumps({"headend_name": name, "metrics": {}}).encode()
    try:
        accepted = headend.decode_field_by_field(body, NOW).labels["name"]
    except BodyError:
        assert not is_text(name)
    else:
        assert is_text(name)
        assert accepted == name
