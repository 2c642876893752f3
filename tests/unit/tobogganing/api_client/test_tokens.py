from pathlib import Path

import pytest

from tobogganing.api_client.tokens import read_token
from tobogganing.errors import LocalError


@pytest.fixture
def local(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with a local run."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ADMIN_TOKEN").write_text("local\n")
    return {"STATE_DIR": str(tmp_path)}


def test_the_order_of_token_sources(local: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("of-the-option")
    (tmp_path / "b").write_text("of-the-file")
    file = {"ADMIN_TOKEN_FILE": str(tmp_path / "b")}
    value = {"ADMIN_TOKEN": "of-the-environment"}
    assert read_token("ADMIN_TOKEN", None, local) == "local"
    assert read_token("ADMIN_TOKEN", None, local | file) == "of-the-file"
    assert read_token("ADMIN_TOKEN", None, local | file | value) == "of-the-environment"
    assert read_token("ADMIN_TOKEN", str(tmp_path / "a"), local | file | value) == "of-the-option"


@pytest.mark.parametrize("text", ["new old", "new,old", "new, old\n", "\nnew\nold\n"])
def test_the_first_of_several(text: str, local: dict[str, str]) -> None:
    assert read_token("ADMIN_TOKEN", None, local | {"ADMIN_TOKEN": text}) == "new"


@pytest.mark.parametrize("text", [" ", ",", "tökén", "a\x01b"])
def test_an_invalid_token(text: str, local: dict[str, str]) -> None:
    with pytest.raises(LocalError, match="no ADMIN_TOKEN: the ADMIN_TOKEN of the environment"):
        read_token("ADMIN_TOKEN", None, local | {"ADMIN_TOKEN": text})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="--admin-token-file"):
        read_token("ADMIN_TOKEN", None, {"STATE_DIR": str(tmp_path)})
