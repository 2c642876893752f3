"""Measures the CPU time of event loop callbacks in the gateway itself.

The gateway runs on uvloop as usual. Methods of its loop class wrap each scheduled callback, and the
methods of each connected protocol class are wrapped as well. The callback that took the most CPU
time of its thread (`time.thread_time`) is stored in a small file that both processes map.
"""

import functools
import gc
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

VARIABLE = "HOSTILE_CALLBACKS"
"""Environment variable with the name of the file."""
SIZE = 256
_SECONDS = struct.Struct("d")

_SCHEDULING = {"call_soon": 0, "call_soon_threadsafe": 0, "call_later": 1, "call_at": 1}
_WATCHING = {"add_reader": 1, "add_writer": 1, "add_signal_handler": 1}
"""Loop methods that take a callback, and the index of that argument."""
_CONNECTING = (
    "create_server",
    "create_unix_server",
    "create_connection",
    "create_datagram_endpoint",
)
_PROTOCOL = (
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
)

_measured: set[type[Any]] = set()

T = TypeVar("T", bound=Callable[..., Any])


class Slowest(NamedTuple):
    """The callback that used the most CPU time: its seconds and its name."""

    seconds: float
    name: str


class CallbackFile:
    """The file with the slowest callback since the last `reset`."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(bytes(SIZE))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), SIZE)
        self._collecting = 0.0

    def reset(self) -> None:
        self._map[:] = bytes(SIZE)

    def read(self) -> Slowest:
        (seconds,) = _SECONDS.unpack_from(self._map)
        name = self._map[_SECONDS.size :].rstrip(b"\0").decode(errors="replace")
        return Slowest(seconds, name)

    def run(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Run a callback, and record it if it is the slowest one."""
        self._collecting = 0.0
        began = time.thread_time()
        try:
            return callback(*args)
        finally:
            self._note(time.thread_time() - began, callback)

    def on_collection(self, phase: str, _: dict[str, int]) -> None:
        """Record which part of a callback the garbage collector took."""
        self._collecting += -time.thread_time() if phase == "start" else time.thread_time()

    def _note(self, seconds: float, callback: object) -> None:
        if seconds > _SECONDS.unpack_from(self._map)[0]:
            name = _name_of(callback)
            if self._collecting:
                name += f", of which garbage collection {self._collecting * 1e3:.0f} ms"
            text = name.encode()[: SIZE - _SECONDS.size]
            self._map[:] = _SECONDS.pack(seconds) + text.ljust(SIZE - _SECONDS.size, b"\0")


class _Measured:
    """A measured callback."""

    __slots__ = ("_callback", "_file")

    def __init__(self, callback: Callable[..., Any], file: CallbackFile) -> None:
        self._callback = callback
        self._file = file

    def __call__(self, *args: Any) -> Any:
        return self._file.run(self._callback, *args)


def _name_of(callback: Any) -> str:
    task: Any = getattr(callback, "__self__", None)
    if task is not None and hasattr(task, "get_coro"):
        return f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', task)}"
    return str(getattr(callback, "__qualname__", callback))


def measure(loop: type[Any], file: CallbackFile) -> None:
    """Measure the callbacks of all loops of a class."""
    for method, place in (_SCHEDULING | _WATCHING).items():
        setattr(loop, method, _measuring(getattr(loop, method), place, file))
    for method in _CONNECTING:
        setattr(loop, method, _connecting(getattr(loop, method), file))


def _measuring(method: T, place: int, file: CallbackFile) -> T:
    @functools.wraps(method)
    def measuring(self: Any, *args: Any, **options: Any) -> Any:
        measured = _Measured(args[place], file)
        return method(self, *args[:place], measured, *args[place + 1 :], **options)

    return measuring  # type: ignore[return-value]


def _connecting(method: T, file: CallbackFile) -> T:
    @functools.wraps(method)
    async def connecting(self: Any, factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        def make() -> Any:
            protocol = factory()
            _measure_protocol(type(protocol), file)
            return protocol

        return await method(self, make, *args, **options)

    return connecting  # type: ignore[return-value]


def _measure_protocol(protocol: type[Any], file: CallbackFile) -> None:
    """Measure the methods of a protocol class, once."""
    if protocol in _measured:
        return
    _measured.add(protocol)
    for name in _PROTOCOL:
        method = getattr(protocol, name, None)
        if method is not None:
            setattr(protocol, name, _timed(method, file))


def _timed(method: T, file: CallbackFile) -> T:
    @functools.wraps(method)
    def timed(*args: Any) -> Any:
        return file.run(method, *args)

    return timed  # type: ignore[return-value]


def install() -> None:
    """Measure the loops of this process if HOSTILE_CALLBACKS is set."""
    name = os.environ.get(VARIABLE)
    if name:
        import uvloop

        file = CallbackFile(Path(name))
        gc.callbacks.append(file.on_collection)
        measure(uvloop.Loop, file)
