"""The soak test finds processes that grow, whatever else fluctuates."""

import random

import pytest

from tests.soak.flat import FILES_RISE, HEAD, MEMORY_RISE, SoakSample, Trend, trends


def samples(leak: float = 0.0, files: float = 0.0, warm: float = 40.0) -> list[SoakSample]:
    """Return half an hour of samples of a process that leaks `leak` MB and `files`
    files per hour."""
    rng = random.Random(1)
    return [
        SoakSample(
            at,
            {
                "gateway": 100 + min(1, at / 300) * warm + leak * at / 3600 + rng.gauss(0, 3),
                "Kafka": 300 + at / 10,
            },
            {"gateway": round(50 + files * at / 3600 + rng.gauss(0, 5)), "Kafka": 99},
        )
        for at in range(1800)
    ]


def of(found: list[SoakSample], process: str, what: str) -> Trend:
    (trend,) = [t for t in trends(found) if t.process == process and t.what.startswith(what)]
    return trend


def test_growth_during_warm_up_is_flat() -> None:
    found = [*trends(samples())]
    assert len(found) == 4
    assert all(trend.is_flat for trend in found)
    assert all(len(trend.row()) == len(HEAD) for trend in found)


def test_a_memory_leak_is_found() -> None:
    found = of(samples(leak=30), "gateway", "memory")
    assert found.an_hour == pytest.approx(30, abs=1)
    assert found.rise == pytest.approx(12, abs=1)
    assert found.rise > MEMORY_RISE
    assert not found.is_flat
    assert found.row()[-1] == "NOT FLAT"


def test_a_leak_of_open_files_is_found() -> None:
    found = of(samples(files=20), "gateway", "open")
    assert found.rise > FILES_RISE
    assert not found.is_flat


def test_a_shrinking_process_is_flat() -> None:
    assert of(samples(leak=-100), "gateway", "memory").is_flat


def test_a_heap_that_grows_to_its_size_is_not_judged() -> None:
    found = of(samples(), "Kafka", "memory")
    assert found.an_hour == pytest.approx(360)
    assert found.row()[-1] == "not judged"


def test_two_samples_are_too_few() -> None:
    with pytest.raises(ValueError, match="no line"):
        [*trends(samples()[:2])]
