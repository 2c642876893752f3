"""Jars are the pinned ones, or they are not installed."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tobogganing.devstack import jars
from tobogganing.devstack.jars import LOCK_FILE, Jar, download_missing, read_lock
from tobogganing.errors import LocalError


class Mirror:
    """A Maven repository on loopback."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.cut_short = 0
        """Number of responses that end after half of the file."""
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/")
                mirror.asked[path] += 1
                content = mirror.files.get(path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if mirror.cut_short:
                    mirror.cut_short -= 1
                    content = content[: len(content) // 2]
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, name: str) -> Jar:
        content = name.encode() * 50_000
        path = f"org/example/{name}.jar"
        self.files[path] = content
        return Jar(hashlib.sha256(content).hexdigest(), len(content), path)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(jars, "ATTEMPTS", 2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever)
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


def test_the_lock_has_kafka_and_no_duplicates() -> None:
    locked = read_lock(LOCK_FILE.read_text())
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in {jar.name for jar in locked}
    assert len({jar.name for jar in locked}) == len(locked) == 46
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in locked)


def test_missing_jars_are_downloaded_once(mirror: Mirror, tmp_path: Path) -> None:
    wanted = [mirror.add("a"), mirror.add("b")]
    download_missing(wanted, tmp_path / "kafka", mirror.url)
    download_missing(wanted, tmp_path / "kafka", mirror.url)
    for jar in wanted:
        assert (tmp_path / "kafka" / jar.name).read_bytes() == mirror.files[jar.path]
        assert mirror.asked[jar.path] == 1


def test_only_a_damaged_jar_is_downloaded_again(mirror: Mirror, tmp_path: Path) -> None:
    damaged, intact = wanted = [mirror.add("a"), mirror.add("b")]
    download_missing(wanted, tmp_path, mirror.url)
    content = bytearray(mirror.files[damaged.path])
    content[1000] ^= 1
    (tmp_path / damaged.name).write_bytes(content)

    download_missing(wanted, tmp_path, mirror.url)

    assert (tmp_path / damaged.name).read_bytes() == mirror.files[damaged.path]
    assert (mirror.asked[damaged.path], mirror.asked[intact.path]) == (2, 1)


def test_a_file_with_another_hash_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    jar = mirror.add("a")
    mirror.files[jar.path] = b"x" * jar.size
    with pytest.raises(LocalError, match="not the pinned file"):
        download_missing([jar], tmp_path, mirror.url)
    assert not list(tmp_path.glob("*.jar*"))


def test_a_longer_file_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    jar = replace(mirror.add("a"), size=100)
    with pytest.raises(LocalError, match="not the pinned file"):
        download_missing([jar], tmp_path, mirror.url)


def test_a_truncated_response_is_requested_again(mirror: Mirror, tmp_path: Path) -> None:
    jar = mirror.add("a")
    mirror.cut_short = 1
    download_missing([jar], tmp_path, mirror.url)
    assert (tmp_path / jar.name).read_bytes() == mirror.files[jar.path]


def test_a_failure_names_the_url_and_keeps_other_jars(mirror: Mirror, tmp_path: Path) -> None:
    present, absent = mirror.add("a"), mirror.add("b")
    download_missing([present], tmp_path, mirror.url)
    del mirror.files[absent.path]
    with pytest.raises(LocalError, match=f"{mirror.url}/{absent.path}.*404.*MAVEN_MIRROR"):
        download_missing([present, absent], tmp_path, mirror.url)
    assert mirror.asked[present.path] == mirror.asked[absent.path] == 1
    assert (tmp_path / present.name).exists()


def test_of_several_processes_one_downloads(mirror: Mirror, tmp_path: Path) -> None:
    wanted = [mirror.add(name) for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(download_missing, wanted, tmp_path, mirror.url) for _ in range(4)]
        for future in futures:
            future.result()
    assert set(mirror.asked.values()) == {1}
