"""An open loop of single requests: they start on a clock, not when the last one ends."""

import asyncio
import ssl
import time
from typing import Literal, NamedTuple, Protocol, cast

from bench.errors import WrongResultError
from bench.load import PATIENCE, Address, split_response
from bench.tls_client import TlsConnection

Connections = Literal["kept", "new", "resumed"]


class Load(NamedTuple):
    """Submissions a second, 0 for none, and how they are sent.

    `resumed` connections are new ones that resume a TLS session.
    """

    rate: int
    connections: Connections = "kept"
    edge: bool = False

    @property
    def case(self) -> str:
        if not self.rate:
            return "no load"
        kind = f"{self.connections} TLS" if self.edge else self.connections
        through = " through the edge" if self.edge else ""
        return f"{self.rate:,} a second, {kind} connections{through}"


SUBJECT = "Fleet"
SYSTEM = "Tobogganing"
BASELINE = "116087e"
"""The last commit in which every submission of a fleet left by itself."""
LOADS = (
    Load(0),
    Load(100, "new"),
    Load(300),
    Load(300, "new"),
    Load(1000),
    Load(300, "new", edge=True),
    Load(300, "resumed", edge=True),
    Load(300, edge=True),
    Load(1000, edge=True),
)
PEER_LOADS = (Load(300), Load(1000), Load(300, "new", edge=True), Load(1000, edge=True))
EDGE = "HAProxy"
WARM_UP = 3.0
"""Seconds of each load before the first round."""
SETTLE = 15.0
"""Seconds of load before the first measurement of a round: in the first minute after it has created
topics, a broker takes twice as much, with and without load."""
CLIENTS = 2_000


class LoadSubject(Protocol):
    """What requests are sent to."""

    sent: int
    """Number of the next request."""

    def address(self, edge: bool) -> Address: ...

    def request(self, number: int) -> bytes: ...

    def responded(self, number: int, status: int, body: bytes) -> None:
        """Note a response.

        Raises:
            WrongResultError: it is not as it must be.
        """


class OpenLoop:
    """Starts a request every 1/rate seconds, on an idle connection if there is one."""

    def __init__(self, subject: LoadSubject, load: Load) -> None:
        self._subject = subject
        self._load = load
        self._address = subject.address(load.edge)
        self._idle: list[_Connection] = []
        self._left = 0
        self._done = asyncio.Event()
        self._error: str | None = None
        self.session: ssl.SSLSession | None = None
        """The newest session, which `resumed` connections resume."""
        self.seconds: list[float] = []
        """Time of each response, from when its request was due."""

    async def run(self, seconds: float) -> int:
        """Send for so long; return how many were sent once all were answered.

        Raises:
            WrongResultError: a response is not as it must be, or does not come.
        """
        subject, rate = self._subject, self._load.rate
        count = round(rate * seconds)
        self._left = count
        began = time.perf_counter()
        tasks = []
        for number in range(count):
            due = began + number / rate
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            request = subject.request(subject.sent + number)
            if self._idle:
                self._idle.pop().send(subject.sent + number, request, due)
            else:
                connecting = self._connect(subject.sent + number, request, due)
                tasks.append(asyncio.create_task(connecting))
            if self._error:
                break
        try:
            async with asyncio.timeout(PATIENCE):
                await self._done.wait()
        except TimeoutError:
            self._error = f"{self._left} of {count} requests were not answered"
        if self._error:
            raise WrongResultError(self._error)
        await asyncio.gather(*tasks)
        for connection in list(self._idle):
            connection.close()
        subject.sent += count
        return count

    async def _connect(self, number: int, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        connection = _Connection(self)
        context = self._address.tls
        session = self.session if self._load.connections == "resumed" else None

        def protocol() -> asyncio.Protocol:
            if context is None:
                return connection
            return TlsConnection(
                context, "localhost", connection.data_received, connection.connection_lost, session
            )

        transport, made = await loop.create_connection(
            protocol, self._address.host, self._address.port
        )
        connection.attach(made if isinstance(made, TlsConnection) else None, transport)
        connection.send(number, request, due)

    def answered(self, connection: "_Connection", number: int, status: int, body: bytes) -> None:
        self.seconds.append(time.perf_counter() - connection.due)
        try:
            self._subject.responded(number, status, body)
        except WrongResultError as error:
            self.fail(str(error))
            return
        if self._load.connections == "kept":
            self._idle.append(connection)
        else:
            self.session = connection.session or self.session
            connection.close()
        self._left -= 1
        if not self._left:
            self._done.set()

    def fail(self, error: str) -> None:
        self._error = error
        self._done.set()

    def closed(self, connection: "_Connection") -> None:
        """Note that the server has closed an idle connection."""
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """A connection without TLS, or the owner of one with it."""

    def __init__(self, loop: OpenLoop) -> None:
        self._loop = loop
        self._tls: TlsConnection | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._buffer = b""
        self._number: int | None = None
        self.due = 0.0

    @property
    def session(self) -> ssl.SSLSession | None:
        return self._tls.session if self._tls is not None else None

    def attach(self, tls: TlsConnection | None, transport: asyncio.BaseTransport) -> None:
        self._tls, self._transport = tls, transport

    def send(self, number: int, request: bytes, due: float) -> None:
        self.due, self._number = due, number
        if self._tls is not None:
            self._tls.write(request)
        else:
            # uvloop's transports are no subclasses of asyncio's.
            cast("asyncio.WriteTransport", self._transport).write(request)

    def close(self) -> None:
        self._number = None
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answer = split_response(self._buffer)
        if answer is not None and self._number is not None:
            number, self._number, self._buffer = self._number, None, b""
            self._loop.answered(self, number, *answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number is not None:
            self._loop.fail(f"a connection broke before its response: {exc}")
        else:
            self._loop.closed(self)
