"""The ADMIN_TOKEN, as whoever calls a gateway from this machine has it."""

from collections.abc import Mapping
from pathlib import Path

from tobogganing.local.errors import LocalError
from tobogganing.local.place import read_place


def read_admin_token(file: str | None, environ: Mapping[str, str]) -> str:
    """From the file, else the environment (ADMIN_TOKEN, ADMIN_TOKEN_FILE), else the local run.

    Where there are several, as while they are replaced, it is the first.

    Raises:
        LocalError: there is none, or one that no request could bring.
    """
    if not file and (text := environ.get("ADMIN_TOKEN")):
        return _first(text, "the ADMIN_TOKEN of the environment")
    local = read_place(environ).state / "secrets" / "ADMIN_TOKEN"
    path = Path(file or environ.get("ADMIN_TOKEN_FILE") or local)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(
            f"no ADMIN_TOKEN: {path} cannot be read ({error}). Set ADMIN_TOKEN, or name the file "
            f"that holds it with --admin-token-file."
        ) from error
    return _first(text, str(path))


def _first(text: str, where: str) -> str:
    tokens = text.replace(",", " ").split()
    if not tokens:
        raise LocalError(f"no ADMIN_TOKEN: {where} is empty")
    if not (tokens[0].isascii() and tokens[0].isprintable()):
        raise LocalError(f"no ADMIN_TOKEN: {where} holds characters that no token has")
    return tokens[0]
