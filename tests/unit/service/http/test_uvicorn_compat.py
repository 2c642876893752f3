"""The parts of uvicorn are those that `uvicorn_compat` was written for."""

import importlib.metadata
import inspect
import signal
from typing import Any

import uvicorn

from service.http import uvicorn_compat
from service.http.uvicorn_compat import RequestResponseCycle, forget_signals


def test_the_version_is_the_pinned_one() -> None:
    assert importlib.metadata.version("uvicorn") == uvicorn_compat.WRITTEN_FOR


def test_a_handled_signal_is_not_raised_again() -> None:
    server = uvicorn.Server(uvicorn.Config(lambda: None))
    server.handle_exit(signal.SIGTERM, None)
    assert server._captured_signals == [signal.SIGTERM]
    forget_signals(server)
    with server.capture_signals():  # raises captured signals again at its end
        pass
    assert server.should_exit


def test_a_request_cycle_has_the_parts_that_are_used() -> None:
    names = (
        *("waiting_for_100_continue", "more_body", "keep_alive", "chunked_encoding"),
        *("expected_content_length", "response_started", "response_complete"),
        *("disconnected", "message_event"),
    )
    arguments: dict[str, Any] = dict.fromkeys(inspect.signature(RequestResponseCycle).parameters)
    cycle = RequestResponseCycle(**arguments)
    assert [name for name in names if not hasattr(cycle, name)] == []
