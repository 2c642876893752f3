import json

from tobogganing.devstack.terminal_lines import LONGEST, REPEAT_AFTER, TerminalLines


def line(level: str, event: str, **details: object) -> str:
    return json.dumps({"timestamp": "t", "level": level, "event": event, "service": "s", **details})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_starts_of_services_and_audit_are_only_in_the_files() -> None:
    lines = TerminalLines()
    for level in ("debug", "info"):
        assert lines.shown("serve", line(level, "audit")) is None
    shown = lines.shown("serve", line("warning", "waiting", topic="t", reason="a\nb"))
    assert shown == "warning: waiting (topic=t, reason=a b)"


def test_one_line_for_each_reason_with_the_number_of_the_others() -> None:
    clock = Clock()
    lines = TerminalLines(clock)
    assert lines.shown("serve", line("error", "lost", offset=1, request="4f2a"))
    for offset in range(2, 5):
        assert lines.shown("serve", line("error", "lost", offset=offset, request="77ab")) is None
    assert lines.shown("processor", line("error", "lost", offset=1, request="4f2a"))
    assert lines.shown("serve", line("error", "found", offset=1))
    assert lines.repeated() == []
    clock.now = REPEAT_AFTER
    assert lines.repeated() == [("serve", "error: lost (offset=4, request=77ab) (3 more)")]
    clock.now = 2 * REPEAT_AFTER
    assert lines.repeated() == []
    assert lines.shown("serve", line("error", "lost", offset=9, request="00")), "it is new again"


def test_of_an_exception_the_last_line_is_shown() -> None:
    lines = TerminalLines()
    trace = ["Traceback (most recent call last):", '  File "a"', "    b", "ValueError: c"]
    assert [lines.shown("serve", each) for each in trace] == [None, None, None, "ValueError: c"]
    exception = [{"exc_type": "KeyError", "exc_value": "'x'", "frames": [{"lineno": 1}]}]
    shown = lines.shown("serve", line("error", "request failed", exception=exception))
    assert shown == "error: request failed (KeyError: 'x')"


def test_what_is_no_log_line_is_shown() -> None:
    lines = TerminalLines()
    for text in ("PORT is not valid", "[1, 2]", "17", "x" * LONGEST):
        assert lines.shown("serve", text) == text
    assert lines.shown("serve", "") is None
    assert len(lines.shown("serve", line("error", "y" * 2 * LONGEST)) or "") == LONGEST + 1


def test_lines_of_libraries_are_only_in_the_files() -> None:
    lines = TerminalLines()
    for level, logger, event in (
        ("warning", "aiokafka.consumer.group_coordinator", "Marking the coordinator dead (node 1)"),
        ("error", "aiokafka.consumer.fetcher", "Failed fetch messages from 1: [Error 7]"),
        ("error", "asyncio", "Unclosed client session"),
    ):
        assert lines.shown("serve", line(level, event, logger=logger)) is None
    own = line("warning", "Kafka does not respond", logger="service.kafka.tailer")
    assert lines.shown("serve", own) == "warning: Kafka does not respond"


def test_a_busy_machine_is_one_plain_line() -> None:
    lines = TerminalLines()
    shown = [
        lines.shown("processor", line(level, event, logger=logger))
        for level, event, logger in (
            ("error", "[^---_ConsumerThread]: Thread keepalive is not responding...", "mode"),
            (
                "warning",
                "Timer commit is overlapping (interval=0.5 runtime=5.07)",
                "mode.timers",
            ),
            ("warning", "Timer livelock is overlapping (interval=1.25 runtime=2)", "mode.timers"),
        )
    ]
    expected = "warning: the machine is busy: this service gets too little CPU time"
    assert shown == [expected, None, None]
    assert [text for _, text in lines.repeated(all=True)] == [f"{expected} (2 more)"]


def test_of_an_exception_in_a_library_the_text_is_shown() -> None:
    exception = [{"exc_type": "KeyError", "exc_value": "'x'", "frames": [{"lineno": 1}]}]
    event = line("error", "[^Agent*: x]: Crashed", logger="mode", exception=exception)
    assert TerminalLines().shown("s", event) == "error: unexpected error in mode: KeyError: 'x'"
