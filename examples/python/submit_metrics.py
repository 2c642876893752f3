"""Submits the counters of a network interface once a minute with an API key, or with a client
certificate; --once submits once.

Requires only Python 3.9 or newer. Settings come from the environment: see README.md of the
examples. The queue's folder contains waiting/<number>.json (one sample each),
rejected/<number>.json (samples that the manager rejected, with the reason), and the counters sent,
dropped and rejected_total.
Next to API_KEY_FILE are <it>.id (the id from the enrolment), <it>.nonce (during an enrolment) and
<it>.next (the old and the new key, during a rotation).
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import random
import re
import secrets
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MAX_SAMPLES = 500
MAX_BYTES = 60 << 10
"""Maximum total size of the samples in a request; labels and punctuation fit the other 4 KiB."""
GZIP_FROM = 1 << 10
"""Smallest body that is compressed. A single sample is smaller; compressing it would save little,
and the manager handles uncompressed bodies at less cost."""
TIMEOUT = 10.0
LONGEST_WAIT = 3600
MANAGER_HEADER, MANAGER_VALUE = "Tobogganing-Service", "manager"
"""Every response of the manager has this header. A response without it comes from a proxy, a
firewall or a captive portal."""
KEY = re.compile(r"[!-~]+")
"""An API key consists of visible ASCII characters."""
CERTIFICATE = re.compile(r"\s*-----BEGIN CERTIFICATE-----\s")
ID = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LONGEST_OVERLAP = 86_400.0
"""Seconds that an old key stays valid after its rotation, at most."""
COUNTERS = {
    "bytes_sent": "tx_bytes",
    "bytes_received": "rx_bytes",
    "packets_sent": "tx_packets",
    "packets_received": "rx_packets",
}


class ManagerError(Exception):
    """A request failed.

    `status` is 0 if there was no response, `retry_after` is in seconds, and `from_manager` is True
    if the response certainly comes from the manager.
    """

    def __init__(
        self, reason: str, status: int = 0, retry_after: int = 0, from_manager: bool = False
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after
        self.from_manager = from_manager

    @property
    def is_rejection(self) -> bool:
        """True if the manager will never accept these samples; a proxy's response does not
        count."""
        return self.from_manager and self.status in (400, 413)


class Queue:
    """Samples in a folder, oldest first, at most `limit`. A folder must be used by one process
    only."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lost: dict[int, bytes] = {}  # samples that could not be written
        self._lock = threading.Lock()
        for name in ("waiting", "rejected"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            for scratch in (folder / name).glob("*.new"):  # left by a process that was killed
                scratch.unlink()
        files = [file.stem for file in (folder / "waiting").glob("*.json")]
        self._numbers = sorted(int(name) for name in files if name.isdigit())

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, sample: bytes) -> None:
        """Add a sample, and drop the oldest ones beyond the limit."""
        with self._lock:
            number = max(time.time_ns(), self._numbers[-1] + 1 if self._numbers else 0)
            try:
                write_whole(self._path("waiting", number), sample)
            except OSError as error:
                say(f"a sample is kept in memory only: {error}")
                self._lost[number] = sample
            self._numbers.append(number)
            surplus = self._numbers[: -self._limit]
            if surplus:
                self._remove(surplus, "dropped")
                dropped = self.count("dropped")
                say(f"queue full: dropped the oldest {len(surplus)} samples, {dropped} in total")

    def oldest(self, most: int) -> dict[int, bytes]:
        """Return the oldest samples by number, at least one, within the limits of a request."""
        batch: dict[int, bytes] = {}
        with self._lock:
            for number in self._numbers[:most]:
                try:
                    sample = self._lost.get(number) or self._path("waiting", number).read_bytes()
                    json.loads(sample)
                except (OSError, ValueError) as error:  # e.g. after a power failure
                    self._reject(number, b"", f"the file contains no sample: {error}")
                    continue
                if batch and sum(map(len, batch.values())) + len(sample) > MAX_BYTES:
                    break
                batch[number] = sample
        return batch

    def sent(self, batch: Mapping[int, bytes]) -> None:
        """Remove samples that the manager has confirmed."""
        with self._lock:
            self._remove([number for number in self._numbers if number in batch], "sent")

    def reject(self, number: int, sample: bytes, reason: str) -> None:
        """Move a sample to the rejected ones, with the reason."""
        with self._lock:
            self._reject(number, sample, reason)

    def count(self, name: str) -> int:
        """Return a counter of the folder: sent, dropped or rejected_total."""
        try:
            return int((self._folder / name).read_text())
        except (OSError, ValueError):
            return 0

    def _reject(self, number: int, sample: bytes, reason: str) -> None:
        text = json.dumps({"reason": reason, "sample": sample.decode(errors="replace")})
        try:
            write_whole(self._path("rejected", number), text.encode() + b"\n")
            for surplus in sorted((self._folder / "rejected").glob("*.json"))[: -self._limit]:
                surplus.unlink()
        except OSError as error:
            say(f"cannot store a rejected sample: {error}")
        self._remove([number], "rejected_total")

    def _remove(self, numbers: list[int], counter: str) -> None:
        for number in numbers:
            self._path("waiting", number).unlink(missing_ok=True)
            self._lost.pop(number, None)
        gone = set(numbers)
        self._numbers = [number for number in self._numbers if number not in gone]
        try:
            write_whole(self._folder / counter, b"%d\n" % (self.count(counter) + len(gone)))
        except OSError as error:
            say(f"cannot update a counter: {error}")

    def _path(self, name: str, number: int) -> Path:
        return self._folder / name / f"{number:020}.json"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically and durably, readable only by its owner."""
    scratch = path.with_name(path.name + ".new")
    opened = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(opened, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


Post = Callable[[str, str, bytes], bytes]
"""Sends a body to a path, with a credential; returns the body of the 200, or raises."""


class Identity:
    """The agent's id and API key, read from files; the agent itself obtains and rotates the key.

    The agent can be killed at any moment: the nonce and the next key are on the disk before they
    are sent to the manager, and the key, which completes an enrolment or a rotation, is written
    last.
    """

    def __init__(self, environ: Mapping[str, str], post: Post, longest_pause: float) -> None:
        self._key_file = Path(environ["API_KEY_FILE"])
        token_file = environ.get("ENROLMENT_TOKEN_FILE")
        self._token_file = Path(token_file) if token_file else None
        self._fixed_id = environ.get("CLIENT_ID") if token_file else environ["CLIENT_ID"]
        self._name = environ.get("AGENT_NAME") or socket.gethostname()
        days = environ.get("ROTATE_KEY_DAYS") or "0"
        if not re.fullmatch("[0-9]+([.][0-9]+)?", days):
            raise ValueError("ROTATE_KEY_DAYS is not a number of at least 0")
        self._period = float(days) * 86_400
        self._post = post
        self._pause = longest_pause
        self._rotate_at = float("-inf")

    def prepare(self) -> None:
        """Enrol, if there is a token and no key yet.

        Raises:
            ManagerError: it did not succeed; the next attempt repeats it.
            OSError: a file cannot be read or written.
        """
        if self._token_file is None or self._key_file.exists():
            return
        nonce_file = self._beside("nonce")
        if not nonce_file.exists():
            write_whole(nonce_file, secrets.token_hex(16).encode())
        document = {"name": self._name, "nonce": nonce_file.read_text(), **self._request()}
        if self._fixed_id:
            document["client_id"] = self._fixed_id
        try:
            answer = self._ask(
                "/api/v1/enrol", _read_key("ENROLMENT_TOKEN_FILE", self._token_file), document
            )
            id, credential = answer.get("client_id", ""), self._credential_in(answer)
            if not (ID.fullmatch(id) and credential):
                raise ManagerError("the response does not come from the manager", 200)
        except ManagerError as error:
            if error.from_manager and error.status == 409:
                nonce_file.unlink()  # used up: the next attempt needs another nonce
            # Not a fault of the samples, whatever its status.
            raise ManagerError(f"not enrolled: {error}", retry_after=error.retry_after) from None
        write_whole(self._beside("id"), id.encode())
        write_whole(self._key_file, credential.encode() + b"\n")
        nonce_file.unlink()
        say(f"enrolled as {id}")

    def id(self) -> str:
        """
        Raises:
            OSError: the agent has no id yet.
        """
        id = self._fixed_id or self._beside("id").read_text().strip()
        if not ID.fullmatch(id):
            raise OSError(f"{self._beside('id')} does not hold an id")
        return id

    def key(self) -> str:
        """Read the key each time: a new one needs no restart.

        Raises:
            OSError: the file cannot be read, or does not contain exactly one API key.
        """
        return _read_key("API_KEY_FILE", self._key_file)

    def rotate_if_due(self) -> None:
        """Replace the key when it is due; a failure is logged, and the next attempt comes later."""
        now = time.monotonic()
        if not self._period or now < self._rotate_at:
            return
        try:
            age = time.time() - self._key_file.stat().st_mtime
            if age >= self._period or self._next_key() is not None:
                self._rotate_at = now + self._pause
                self._rotate()
        except (ManagerError, OSError) as error:
            say(f"the key is not replaced yet: {error}")

    def finish_rotation(self) -> bool:
        """After a 401: finish a rotation that had begun; return whether there was one."""
        try:
            if self._next_key() is None:
                return False
            self._rotate()
        except (ManagerError, OSError) as error:
            say(f"the key is not replaced yet: {error}")
            return False
        return True

    def _request(self) -> dict[str, str]:
        """What an enrolment requests besides an id."""
        return {}

    def _credential_in(self, answer: Mapping[str, str]) -> str:
        """The credential in the response to an enrolment; empty if it has none."""
        key = answer.get("api_key", "")
        return key if KEY.fullmatch(key) else ""

    def _rotate(self) -> None:
        old, new = self.key(), self._next_key()
        if new is None:
            new = secrets.token_urlsafe(32)
            write_whole(self._beside("next"), f"{old}\n{new}\n".encode())
        overlap = min(LONGEST_OVERLAP, self._period / 2 or LONGEST_OVERLAP)
        document = {"overlap_seconds": overlap, "new_api_key": new}
        path = f"/api/v1/clients/{self.id()}/rotate-key"
        try:
            answer = self._ask(path, old, document)
        except ManagerError as error:
            if not (error.from_manager and error.status == 401):
                raise
            answer = self._ask(path, new, document)  # it is in effect, and the old one has ended
        given = answer.get("new_api_key", "")
        if not KEY.fullmatch(given):
            raise ManagerError("the response does not come from the manager", 200)
        write_whole(self._key_file, given.encode() + b"\n")
        self._beside("next").unlink()
        say("replaced the key")

    def _next_key(self) -> str | None:
        """Return the key that was generated to replace the current one, None if there is none.

        A key that was generated for another one is discarded: that one has been replaced since.
        """
        try:
            old, new = self._beside("next").read_text().split()
        except FileNotFoundError:
            return None
        except ValueError:
            old = new = ""
        if old == self.key() and KEY.fullmatch(new):
            return new
        self._beside("next").unlink()
        return None

    def _ask(self, path: str, bearer: str, document: Mapping[str, Any]) -> dict[str, str]:
        """Send a JSON document; return the strings of the response."""
        content = self._post(path, bearer, json.dumps(document).encode())
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ManagerError("the response does not come from the manager", 200)
        return {name: value for name, value in answer.items() if isinstance(value, str)}

    def _beside(self, suffix: str) -> Path:
        return self._key_file.with_name(f"{self._key_file.name}.{suffix}")


class CertificateIdentity(Identity):
    """The agent's id and client certificate, instead of a key that a request reveals.

    The installer creates the private key and the certificate request (CSR). The agent renews the
    certificate with the same request, authenticated by the current certificate.
    """

    def __init__(self, environ: Mapping[str, str], post: Post, longest_pause: float) -> None:
        days = environ.get("RENEW_CERTIFICATE_DAYS") or "30"
        files = {"API_KEY_FILE": environ["CERTIFICATE_FILE"], "ROTATE_KEY_DAYS": days}
        super().__init__({**environ, **files}, post, longest_pause)
        self._csr_file = Path(environ["CSR_FILE"])

    def key(self) -> str:
        """Return no credential: the certificate authenticates the TLS connection."""
        return ""

    def finish_rotation(self) -> bool:
        return False

    def _request(self) -> dict[str, str]:
        return {"csr": _read("CSR_FILE", self._csr_file) + "\n"}

    def _credential_in(self, answer: Mapping[str, str]) -> str:
        certificate = answer.get("certificate", "")
        return certificate.strip() if CERTIFICATE.match(certificate) else ""

    def _rotate(self) -> None:
        document = {"node_type": "client", "node_id": self.id(), **self._request()}
        certificate = self._credential_in(self._ask("/api/v1/certs/generate", "", document))
        if not certificate:
            raise ManagerError("the response does not come from the manager", 200)
        write_whole(self._key_file, certificate.encode() + b"\n")
        say("renewed the certificate")

    def _next_key(self) -> str | None:
        return None


def _read(setting: str, path: Path) -> str:
    """Read the file of a setting.

    Raises:
        OSError: it cannot be read; the text names the setting.
    """
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace").strip()
    except OSError as error:
        raise OSError(f"{setting}: {path} cannot be read: {error.strerror}") from error


def _read_key(setting: str, path: Path) -> str:
    key = _read(setting, path)
    if not KEY.fullmatch(key):
        raise OSError(f"{setting}: {path} does not contain exactly one API key")
    return key


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, because they would forward the key."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _ResumingHandler(urllib.request.HTTPSHandler):
    """Resumes the TLS session of the last connection, which avoids most of the cost of a new
    one."""

    def __init__(self, certificate: Path | None = None, private_key: Path | None = None) -> None:
        self.tls = ssl.create_default_context()
        super().__init__(context=self.tls)
        self.session: ssl.SSLSession | None = None
        self._certificate, self._private_key = certificate, private_key
        self._loaded = 0

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        self._load_certificate()
        return self.do_open(self._connection, request)

    def _load_certificate(self) -> None:
        """Present the certificate in the file; a resumed session would have the previous one."""
        if self._certificate is None or not self._certificate.exists():
            return
        changed = self._certificate.stat().st_mtime_ns
        if changed != self._loaded:
            self.tls, self.session = ssl.create_default_context(), None
            self.tls.load_cert_chain(self._certificate, self._private_key)
            self._loaded = changed

    def _connection(self, host: str, **options: Any) -> http.client.HTTPSConnection:
        return _ResumingConnection(host, handler=self, context=self.tls, **options)


class _ResumingConnection(http.client.HTTPSConnection):
    """A connection that starts with its handler's TLS session, and updates it."""

    def __init__(self, host: str, *, handler: _ResumingHandler, **options: Any) -> None:
        super().__init__(host, **options)
        self._handler = handler

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)  # may use a proxy's tunnel
        host = self._tunnel_host or self.host  # type: ignore[attr-defined]
        self.sock = self._handler.tls.wrap_socket(
            self.sock, server_hostname=host, session=self._handler.session
        )

    def getresponse(self) -> http.client.HTTPResponse:
        connection = self.sock
        response = super().getresponse()
        self._handler.session = connection.session  # TLS 1.3 sends it after the handshake
        return response


class Client:
    """Measures, queues and submits samples."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._manager = environ["MANAGER_URL"].rstrip("/")
        headless = environ.get("HEADLESS", "false")
        if headless not in ("true", "false"):
            raise ValueError("HEADLESS must be true or false")
        self._headless = headless.encode()
        root = Path(environ.get("SYSTEM_ROOT", "/"))
        self._interface = environ.get("INTERFACE", "wg0")
        self._net = root / "sys/class/net" / self._interface / "statistics"
        self._uptime = root / "proc/uptime"
        self._interval = float(environ.get("INTERVAL_SECONDS", "60"))
        self._most_pause = float(environ.get("MAX_PAUSE_SECONDS", "60"))
        handler = _ResumingHandler()
        if environ.get("CERTIFICATE_FILE"):
            files = Path(environ["CERTIFICATE_FILE"]), Path(environ["PRIVATE_KEY_FILE"])
            handler = _ResumingHandler(*files)
            identity: Identity = CertificateIdentity(environ, self._post, self._most_pause)
        else:
            identity = Identity(environ, self._post, self._most_pause)
        self._identity = identity
        self._queue = Queue(Path(environ["QUEUE_DIR"]), int(environ.get("QUEUE_MAX", "1440")))
        self._opener = urllib.request.build_opener(_NoRedirects, handler)
        self._most = MAX_SAMPLES
        self._failures = 0
        self._trouble = ""
        self._awake, self._ended = threading.Event(), threading.Event()

    def once(self) -> None:
        """Measure once, and submit all queued samples.

        Raises:
            ManagerError: samples remain queued.
            OSError: the counters or the key cannot be read.
        """
        self._take()
        while len(self._queue):
            self._deliver()

    def run(self) -> None:
        """Measure and submit until SIGTERM; a request in flight is completed first."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end())
        measuring = threading.Thread(target=self._measure, daemon=True)
        measuring.start()
        while not self._ended.is_set():
            self._awake.wait()
            self._awake.clear()
            while len(self._queue) and not self._ended.is_set():
                try:
                    self._deliver()
                except (ManagerError, OSError) as error:
                    self._ended.wait(self._pause(error))
        measuring.join()  # a sample that is being written is completed too

    def _end(self) -> None:
        self._ended.set()
        self._awake.set()

    def _measure(self) -> None:
        due = time.monotonic() + self._until_first(time.time())
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic())
            try:
                self._take()
            except OSError as error:
                say(str(error))
            self._awake.set()

    def _until_first(self, now: float) -> float:
        """Return the seconds before the first sample.

        The id of an agent determines its place in every interval: agents that start together report
        evenly spread, and keep their places after a restart. Without an id the place is random.
        """
        try:
            digest = hashlib.sha256(self._identity.id().encode()).digest()
            place = int.from_bytes(digest[:4], "big") / 2**32
        except OSError:
            place = random.random()
        return (place * self._interval - now) % self._interval

    def _take(self) -> None:
        """Measure, and add the sample to the queue.

        Raises:
            OSError: the counters cannot be read.
        """
        if not self._net.exists():
            raise OSError(f"nothing to report: no counters of INTERFACE {self._interface}")
        try:
            metrics: dict[str, float] = {
                name: _counter(self._net / file) for name, file in COUNTERS.items()
            }
            metrics["connection_uptime"] = float(self._uptime.read_text().split()[0])
        except (OSError, ValueError, IndexError) as error:
            raise OSError(f"nothing to report: {error}") from error
        sample = {"timestamp": round(time.time(), 3), "metrics": metrics}
        self._queue.put(json.dumps(sample).encode())

    def _deliver(self) -> None:
        """Send the oldest samples in one request; the batch is halved to find a rejected sample."""
        self._identity.prepare()
        batch = self._queue.oldest(self._most)
        if not batch:
            return
        try:
            self._send_as_long_as_known([*batch.values()])
        except ManagerError as failure:
            if len(batch) > 1 and (failure.is_rejection or failure.status == 413):
                self._most = len(batch) // 2  # also if a proxy's limit is lower than the manager's
            if not failure.is_rejection:
                raise
            if len(batch) > 1:
                return
            ((number, sample),) = batch.items()
            self._queue.reject(number, sample, str(failure))
            say(f"rejected a sample: {failure}")
        else:
            self._queue.sent(batch)
            self._most = min(2 * self._most, MAX_SAMPLES)
            if self._trouble or len(batch) > 1:
                say(f"sent {len(batch)} samples, {len(self._queue)} wait")
            self._identity.rotate_if_due()
        self._failures, self._trouble = 0, ""

    def _pause(self, error: Exception) -> float:
        """Log a new error; return how many seconds to wait."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            say(f"{len(self._queue)} samples wait: {error}")
        most = min(self._most_pause, 2.0 ** min(self._failures, 30))
        self._failures += 1
        retry_after = error.retry_after if isinstance(error, ManagerError) else 0
        return min(retry_after, LONGEST_WAIT) + random.uniform(0, most)

    def _send_as_long_as_known(self, samples: list[bytes]) -> None:
        """Send; send again with the next key if the current one has expired since."""
        try:
            self._send(samples)
        except ManagerError as error:
            if not (error.from_manager and error.status == 401):
                raise
            if not self._identity.finish_rotation():
                raise
            self._send(samples)

    def _send(self, samples: list[bytes]) -> None:
        label = b'{"headless":%b,' % self._headless
        if len(samples) == 1:
            body = label + samples[0].strip()[1:]
        else:
            body = label + b'"samples":[' + b",".join(samples) + b"]}"
        path = f"/api/v1/clients/{self._identity.id()}/metrics"
        content = self._post(path, self._identity.key(), body)
        if not _is_receipt(content):
            raise ManagerError("the response does not come from the manager", 200)

    def _post(self, path: str, bearer: str, body: bytes) -> bytes:
        """Send JSON; return the body of the 200.

        Raises:
            ManagerError: there was another response, or none.
        """
        headers = {"Content-Type": "application/json"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if len(body) >= GZIP_FROM:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        request = urllib.request.Request(self._manager + path, body, headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                content: bytes = answer.read(1 << 20)
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise _failure(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise ManagerError(f"no response: {error}") from error


def _counter(path: Path) -> int:
    """Read a counter of the kernel.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not contain a counter.
    """
    text = path.read_text().strip()
    if not re.fullmatch("[0-9]+", text):
        raise ValueError(f"{path} contains no counter: {text!r}")
    return int(text)


def _failure(error: urllib.error.HTTPError) -> ManagerError:
    """Convert a response other than 200."""
    after = error.headers.get("Retry-After", "")
    from_manager = error.headers.get(MANAGER_HEADER) == MANAGER_VALUE
    try:
        content = error.read(200).decode(errors="replace")
    except (OSError, http.client.HTTPException) as broken:
        content = f"(the rest is missing: {broken})"
    sender = "the manager" if from_manager else "an intermediary"
    return ManagerError(
        f"{sender} responds {error.code}: {' '.join(content.split())}",
        error.code,
        int(after) if re.fullmatch("[0-9]{1,9}", after) else 0,
        from_manager,
    )


def _is_receipt(content: bytes) -> bool:
    """Return whether the body of a 200 comes from the manager, and not from a captive portal."""
    try:
        document = json.loads(content)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("status") == "metrics_received"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run; return 2 if the settings are not valid, 1 if samples remain queued."""
    try:
        client = Client(os.environ)
    except KeyError as error:
        say(f"{error.args[0]} is not set")
        return 2
    except (ValueError, OSError) as error:
        say(f"settings are not valid: {error}")
        return 2
    if sys.argv[1:] != ["--once"]:
        client.run()
        return 0
    try:
        client.once()
    except (ManagerError, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
