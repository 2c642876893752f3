from collections.abc import Iterator
from pathlib import Path

import pytest

from tobogganing.api_client.tokens import read_token
from tobogganing.devstack.local_run import lock_file, published_urls
from tobogganing.devstack.locks import acquire
from tobogganing.errors import LocalError

URL = "http://127.0.0.1:9000"
PUBLIC = "http://192.0.2.7:9000"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a machine with a local run."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ADMIN_TOKEN").write_text("local\n")
    with acquire(lock_file(tmp_path), wait=False), published_urls(tmp_path, [URL, PUBLIC]):
        yield {"STATE_DIR": str(tmp_path)}


def test_the_order_of_token_sources(local: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("of-the-option")
    (tmp_path / "b").write_text("of-the-file")
    file = {"ADMIN_TOKEN_FILE": str(tmp_path / "b")}
    value = {"ADMIN_TOKEN": "of-the-environment"}
    assert read_token("ADMIN_TOKEN", None, local, URL) == "local"
    assert read_token("ADMIN_TOKEN", None, local | file, URL) == "of-the-file"
    assert read_token("ADMIN_TOKEN", None, local | file | value, URL) == "of-the-environment"
    assert (
        read_token("ADMIN_TOKEN", str(tmp_path / "a"), local | file | value, URL) == "of-the-option"
    )


@pytest.mark.parametrize("text", ["new old", "new,old", "new, old\n", "\nnew\nold\n"])
def test_the_first_of_several(text: str, local: dict[str, str]) -> None:
    assert read_token("ADMIN_TOKEN", None, local | {"ADMIN_TOKEN": text}, URL) == "new"


@pytest.mark.parametrize("text", [" ", ",", "tökén", "a\x01b"])
def test_an_invalid_token(text: str, local: dict[str, str]) -> None:
    with pytest.raises(LocalError, match="no ADMIN_TOKEN: the ADMIN_TOKEN of the environment"):
        read_token("ADMIN_TOKEN", None, local | {"ADMIN_TOKEN": text}, URL)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="--admin-token-file"):
        read_token("ADMIN_TOKEN", None, {"STATE_DIR": str(tmp_path)}, URL)


@pytest.mark.parametrize("url", [URL, f"{URL}/", PUBLIC, "http://127.0.0.1:9000/api"])
def test_the_local_token_is_for_the_urls_of_the_run(url: str, local: dict[str, str]) -> None:
    assert read_token("ADMIN_TOKEN", None, local, url) == "local"


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8000", "https://127.0.0.1:9000", "http://localhost:9000"),
        *("http://127.0.0.1", "http://127.0.0.1:9000@192.0.2.9", "http://[::1]:9000"),
        "http://127.0.0.1:90000",
    ],
)
def test_the_local_token_is_for_no_other_url(url: str, local: dict[str, str]) -> None:
    with pytest.raises(LocalError, match="sent to the local run only, which serves http://127"):
        read_token("ADMIN_TOKEN", None, local, url)


def test_the_token_of_a_run_that_was_killed_is_for_nobody(tmp_path: Path) -> None:
    """Another program may listen on its port by now."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ADMIN_TOKEN").write_text("local\n")
    (tmp_path / "url").write_text(f"{URL}\n")
    with pytest.raises(LocalError, match="does not run"):
        read_token("ADMIN_TOKEN", None, {"STATE_DIR": str(tmp_path)}, URL)
