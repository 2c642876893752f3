"""Templates: a submission is encoded equally by all paths."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.entity import partition_of
from contract.frame import Submission, decode_frame, encode_frame_parts
from contract.kinds import CLIENT, HEADEND, EntityKind, Label
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.registry_state import RegistryState
from gateway.body.json import BodyError
from gateway.ingest import encoder as module
from gateway.ingest.backfill import BackfillDecoder
from gateway.ingest.decoder import BodyDecoder, ParsedBody
from gateway.ingest.encoder import KindEncoder, SubmissionTemplate, TemplateCache

NOW = 1_800_000_000.0
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


def record_of(kind: EntityKind, name: str = "Ada", revision: int = 1) -> RegistryRecord:
    attributes = {"type": "native"} if kind is CLIENT else {"region": "eu", "datacenter": "f"}
    return RegistryRecord(RECORD_VERSION, kind.name, "x-1", revision, name, attributes, [], 7)


def knowing(*records: RegistryRecord) -> tuple[RegistryState, TemplateCache]:
    """Return a registry with these records, in order, and its template cache."""
    state = RegistryState()
    templates = TemplateCache(state, 4)
    for offset, record in enumerate(records):
        state.apply(offset, record.key, encode_record(record))
    return state, templates


def envelope_of(record: RegistryRecord) -> SubmissionTemplate:
    return knowing(record)[1].get_or_build(record)


def submission_of(piece: bytes) -> Submission:
    (submission,) = decode_frame(encode_frame_parts(0, [piece])).submissions
    return submission


def both_ways(template: SubmissionTemplate, decoder: BodyDecoder, body: bytes) -> Submission:
    """Return a canonical body as both paths encode it."""
    plain = decoder.decode(body, NOW)
    assert not isinstance(plain, ParsedBody), "it is not canonical"
    quick = submission_of(template.encode_canonical(plain, NOW))
    assert quick == submission_of(template.encode_parsed(decoder.decode_field_by_field(body, NOW)))
    return quick


numbers = st.integers(0, 2**63 - 1)
exact = st.integers(0, 2**53)  # the exact value of a float
floats = st.floats(0, 2.0**63) | st.just(-0.0) | exact


@given(
    texts,
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "headless": st.booleans(),
                "timestamp": st.floats(0, NOW),
                "bytes_sent": numbers,
                "packets_sent": numbers,
                "connection_uptime": floats,
            },
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_client_submissions_are_encoded_equally_by_both_paths(
    name: str, sent: list[dict[str, Any]]
) -> None:
    """One template for several submissions with changing labels."""
    template = envelope_of(record_of(CLIENT, name))
    decoder = BodyDecoder(CLIENT)
    for fields in sent:
        around = {key: fields[key] for key in ("headless", "timestamp") if key in fields}
        metrics = {key: value for key, value in fields.items() if key not in around}
        got = both_ways(template, decoder, json.dumps({"metrics": metrics} | around).encode())
        assert got.metrics == metrics
        assert "-0.0" not in str(got.metrics)
        headless = {"headless": str(fields["headless"]).lower()} if "headless" in fields else {}
        assert got.labels == {"name": name, "type": "native"} | headless
        assert got.default_labels == ({} if headless else {"headless": "false"})
        assert got.timestamp == fields.get("timestamp")


@given(st.lists(st.none() | texts, min_size=1, max_size=4))
def test_headend_submissions_are_encoded_equally_by_both_paths(names: list[str | None]) -> None:
    template = envelope_of(record_of(HEADEND))
    decoder = BodyDecoder(HEADEND)
    for name in names:
        body = {"metrics": {"cpu_usage": 1}} | ({"headend_name": name} if name else {})
        got = both_ways(template, decoder, json.dumps(body).encode())
        assert got.labels == {"region": "eu", "datacenter": "f"} | ({"name": name} if name else {})
        assert got.default_labels == ({} if name else {"name": "Ada"})


@pytest.mark.parametrize("submitted", [(), ("a",), ("a", "b")])
def test_a_kind_may_have_any_number_of_submitted_labels(submitted: tuple[str, ...]) -> None:
    labels = tuple(Label(name, submitted="text", field=f"{name}_field") for name in submitted)
    kind = replace(CLIENT, labels=(Label("name", registered=True), *labels))
    template = SubmissionTemplate(0, KindEncoder(kind), encode_record(record_of(kind)))
    decoder = BodyDecoder(kind)
    for sent in ({}, {f"{name}_field": f"value of {name}" for name in submitted}, {}):
        got = both_ways(template, decoder, json.dumps({**sent, "metrics": {}}).encode())
        expected = {name: f"value of {name}" for name in submitted if sent}
        assert got.labels == {"name": "Ada"} | expected
        assert got.default_labels == dict.fromkeys(set(submitted) - expected.keys(), "")


def test_both_paths_refuse_invalid_labels_and_timestamps() -> None:
    template, decoder = envelope_of(record_of(HEADEND)), BodyDecoder(HEADEND)
    good, bad = b'{"metrics":{},"headend_name":"a"}', b'{"metrics":{},"headend_name":"a\\u0001"}'
    late = b'{"metrics":{},"timestamp":%d}' % (NOW + 301)
    for body, field in ((bad, "headend_name"), (late, "timestamp")):
        plain = decoder.decode(body, NOW)
        assert not isinstance(plain, ParsedBody)
        with pytest.raises(BodyError) as error:
            template.encode_canonical(plain, NOW)
        assert error.value.field == field
        both_ways(template, decoder, good)


def test_a_template_is_cached_until_its_record_changes() -> None:
    first, second = record_of(CLIENT), record_of(CLIENT, "Grace", 2)
    state, templates = knowing(first)
    before = templates.find("client", "x-1")
    assert before is not None
    assert templates.find("client", "x-1") is before is templates.get_or_build(first)
    assert before.partition == partition_of(first.key, 4)

    state.apply(1, second.key, encode_record(second))
    piece = templates.get_or_build(second).encode_parsed(ParsedBody({}, {}, None))
    assert submission_of(piece).labels["name"] == "Grace"


def test_an_unregistered_entity_has_no_template() -> None:
    registered = record_of(CLIENT)
    removed = record_of(CLIENT, revision=2)
    removed.removed = True
    state, templates = knowing(registered)
    assert templates.find("client", "x-2") is None
    assert templates.find("headend", "x-1") is None
    assert templates.find("client", "x-1") is not None

    state.apply(1, removed.key, encode_record(removed))
    assert templates.find("client", "x-1") is None
    # a request that arrived before keeps its record, with its incarnation
    piece = templates.get_or_build(registered).encode_parsed(ParsedBody({}, {}, None))
    assert submission_of(piece).incarnation == registered.incarnation
    assert templates.find("client", "x-1") is None


def test_the_template_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEMPLATES", 3)
    records = [record_of(CLIENT) for _ in range(5)]
    for number, record in enumerate(records):
        record.id = f"x-{number}"
    _, templates = knowing(*records)
    for _ in range(2):
        for record in records:
            found = templates.find("client", record.id)
            assert found is not None
            assert submission_of(found.encode_parsed(ParsedBody({}, {}, None))).id == record.id
    assert len(templates._templates["client"]) == 3


client = BackfillDecoder(CLIENT, BodyDecoder(CLIENT))


def read_backlog(body: str) -> list[ParsedBody]:
    samples = client.decode(body.encode(), NOW)
    assert isinstance(samples, Iterator)
    return list(samples)


def test_a_backlog_keeps_its_order() -> None:
    samples = [{"timestamp": 5 - n, "metrics": {"bytes_sent": n}} for n in range(5)]
    got = read_backlog(json.dumps({"samples": samples}))
    assert [body.metrics["bytes_sent"] for body in got] == [0, 1, 2, 3, 4]
    assert [body.timestamp for body in got] == [5, 4, 3, 2, 1]


def test_labels_of_a_backlog_apply_to_samples_without_labels() -> None:
    samples = [{"timestamp": 1, "metrics": {}}, {"timestamp": 2, "metrics": {}, "headless": False}]
    got = read_backlog(json.dumps({"samples": samples, "headless": True}))
    assert [body.labels["headless"] for body in got] == ["true", "false"]


def test_samples_may_also_be_the_name_of_a_metric() -> None:
    got = client.decode(b'{"metrics":{"samples":1,"bytes_sent":2}}', NOW)
    assert isinstance(got, ParsedBody)
    assert (got.metrics, list(got.ignored)) == ({"bytes_sent": 2}, ["samples"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"samples":[]}', "samples"),
        ('{"samples":{}}', "samples"),
        ('{"samples":null}', "samples"),
        ('{"samples":[1]}', "samples[0]"),
        ('{"samples":[' + "1," * 10_000 + "1]}", "samples"),
        ('{"samples":[{"metrics":{}}]}', "samples[0].timestamp"),
        ('{"samples":[{"timestamp":1}]}', "samples[0].metrics"),
        ('{"samples":[{"timestamp":1,"metrics":{}}],"metrics":{}}', "metrics"),
        ('{"samples":[{"timestamp":1,"metrics":{}}],"headless":3}', "headless"),
        (
            '{"samples":[{"timestamp":1,"metrics":{}},{"timestamp":1,"metrics":{"bytes_sent":-1}}]}',
            "samples[1].metrics.bytes_sent",
        ),
        ('{"samples":[{"timestamp":9e9,"metrics":{}}]}', "samples[0].timestamp"),
        ('{"samples":[{"timestamp":1,"metrics":{}}', "body"),
    ],
)
def test_invalid_backlogs_are_refused(body: str, field: str) -> None:
    with pytest.raises(BodyError) as error:
        read_backlog(body)
    assert error.value.field == field
