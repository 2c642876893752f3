"""Enrolments: uses are counted exactly, for any order of claims by any gateways."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.enrolment import (
    REPEAT_MS,
    claimable_uses,
    enrolled_attributes,
    has_ended,
    id_for_nonce,
    may_repeat,
    new_enrolment,
    uses,
    with_claimed,
    without_nonce,
)
from contract.registry import RECORD_VERSION, RegistryRecord, encode_record
from contract.registry_state import ApplyResult, RegistryState

NOW = 1_000_000
NONCE = "a nonce of sixteen or more"


def enrolment(limit: int | None = None, ends: int | None = None) -> RegistryRecord:
    made = new_enrolment("e", "site", "00", {}, max_uses=limit, ends_ms=ends)
    return replace(made, incarnation=7)


def registration(nonce: str | None = NONCE, of: RegistryRecord | None = None) -> RegistryRecord:
    attributes = enrolled_attributes(of or enrolment(), nonce, NOW)
    return RegistryRecord(RECORD_VERSION, "client", "c", 1, "x", attributes)


@dataclass
class Claimer:
    """A gateway: the records that it has read, and its claims without a result."""

    state: RegistryState = field(default_factory=RegistryState)
    read: int = 0
    pending: dict[int, int] = field(default_factory=dict)
    """Offset -> uses of the claim."""


class Race:
    """Gateways that claim uses through one topic; `granted` is the number that they may grant."""

    def __init__(self, limit: int, gateways: int) -> None:
        self.log = [encode_record(enrolment(limit))]
        self.claimers = [Claimer() for _ in range(gateways)]
        self.granted = 0
        self.lost = 0

    def claim(self, number: int, wanted: int) -> None:
        claimer = self.claimers[number]
        current = claimer.state.get(b"enrolment:e")
        if current is None or not (count := claimable_uses(current, wanted)):
            return
        claimed = with_claimed(current, count, NOW)
        self.log.append(encode_record(replace(claimed, revision=current.revision + 1)))
        claimer.pending[len(self.log) - 1] = count

    def read(self, number: int, most: int) -> None:
        claimer = self.claimers[number]
        for offset in range(claimer.read, min(len(self.log), claimer.read + most)):
            result = claimer.state.apply(offset, b"enrolment:e", self.log[offset])
            count = claimer.pending.pop(offset, 0)
            if result is ApplyResult.CURRENT:
                self.granted += count
            claimer.read = offset + 1

    def kill(self, number: int) -> None:
        """Restart a gateway: claims that it has not read back are never granted."""
        self.claimers[number] = Claimer()

    def final(self) -> int:
        state = RegistryState()
        for offset, value in enumerate(self.log):
            state.apply(offset, b"enrolment:e", value)
        current = state.get(b"enrolment:e")
        assert current is not None
        return uses(current)


steps = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "read", "read", "kill"]),
        st.integers(0, 2),
        st.integers(1, 9),
    ),
    max_size=120,
)


@given(limit=st.integers(1, 25), steps=steps)
def test_no_more_uses_are_given_than_there_are(
    limit: int, steps: list[tuple[str, int, int]]
) -> None:
    race, killed = Race(limit, 3), False
    for step, number, amount in steps:
        if step == "claim":
            race.claim(number, amount)
        elif step == "read":
            race.read(number, amount)
        else:
            race.kill(number)
            killed = True
        assert race.granted <= limit
    for number in range(3):
        race.read(number, len(race.log))
    assert race.granted <= race.final() <= limit
    if not killed:
        assert race.granted == race.final(), "without a kill nothing is lost"


@given(limit=st.integers(1, 25), wanted=st.integers(1, 9))
def test_whoever_goes_on_gets_every_use(limit: int, wanted: int) -> None:
    race = Race(limit, 3)
    for number in list(range(3)) * (limit + 1):
        race.read(number, len(race.log))
        race.claim(number, wanted)
    for number in range(3):
        race.read(number, len(race.log))
    assert race.granted == race.final() == limit


def test_without_a_limit_every_use_is_counted() -> None:
    record = enrolment()
    assert claimable_uses(record, 1000) == 1000
    assert uses(with_claimed(with_claimed(record, 3, NOW), 2, NOW + 1)) == 5


def test_its_token_is_accepted_for_an_hour_after_the_end_for_repetitions() -> None:
    record = enrolment(ends=NOW)
    assert not has_ended(record, NOW - 1)
    assert has_ended(record, NOW)
    assert record.valid_keys(NOW + REPEAT_MS - 1) == ["00"]
    assert record.valid_keys(NOW + REPEAT_MS) == []
    assert not has_ended(enrolment(), 2**53)


def test_a_nonce_gives_the_same_id_in_its_enrolment_only() -> None:
    one = id_for_nonce(enrolment(), NONCE, "client-")
    assert one == id_for_nonce(with_claimed(enrolment(), 1, NOW), NONCE, "client-")
    assert one.startswith("client-")
    assert one != id_for_nonce(enrolment(), NONCE + "x", "client-")
    assert one != id_for_nonce(replace(enrolment(), incarnation=8), NONCE, "client-")


def test_a_registration_is_repeated_with_its_nonce_within_the_hour() -> None:
    made = registration()
    assert may_repeat(made, enrolment(), NONCE, NOW + REPEAT_MS - 1)
    assert not may_repeat(made, enrolment(), NONCE, NOW + REPEAT_MS)
    assert not may_repeat(made, enrolment(), NONCE + "x", NOW)
    assert not may_repeat(made, enrolment(), None, NOW)
    assert not may_repeat(made, replace(enrolment(), incarnation=8), NONCE, NOW)
    assert not may_repeat(replace(made, attributes=without_nonce(made)), enrolment(), NONCE, NOW)
    assert not may_repeat(registration(nonce=None), enrolment(), None, NOW)
    assert NONCE not in encode_record(made).decode(), "a digest is kept"


def test_a_version_that_does_not_know_enrolments_copies_them_whole() -> None:
    """An older gateway decodes and encodes the records that it repairs: no field is lost."""
    record = with_claimed(enrolment(5, NOW), 2, NOW)
    fields = {"version", "kind", "id", "revision", "name", "attributes", "api_keys"}
    fields |= {"incarnation", "expiring_keys", "token_epoch", "removed", "expires_at_ms"}
    assert set(record.__struct_fields__) == fields, "an older version drops a field that is new"
