"""The installation's own tokens, as whoever calls a service from this machine has them."""

from collections.abc import Mapping
from pathlib import Path

from tobogganing.devstack.run_config import read_run_config
from tobogganing.errors import LocalError


def read_admin_token(file: str | None, environ: Mapping[str, str]) -> str:
    """The ADMIN_TOKEN; see `read_token`."""
    return read_token("ADMIN_TOKEN", file, environ)


def read_token(name: str, file: str | None, environ: Mapping[str, str]) -> str:
    """From the file, else the environment (NAME, NAME_FILE), else the local run.

    Where there are several, as while they are replaced, it is the first.

    Raises:
        LocalError: there is none, or one that no request could bring.
    """
    if not file and (text := environ.get(name)):
        return _first(name, text, f"the {name} of the environment")
    local = read_run_config(environ).state / "secrets" / name
    path = Path(file or environ.get(f"{name}_FILE") or local)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(
            f"no {name}: {path} cannot be read ({error}). Set {name}, or name the file "
            f"that holds it with {option_of(name)}."
        ) from error
    return _first(name, text, str(path))


def option_of(name: str) -> str:
    """The option that names the file of a token: `--admin-token-file` for ADMIN_TOKEN."""
    return f"--{name.lower().replace('_', '-')}-file"


def _first(name: str, text: str, where: str) -> str:
    tokens = text.replace(",", " ").split()
    if not tokens:
        raise LocalError(f"no {name}: {where} is empty")
    if not (tokens[0].isascii() and tokens[0].isprintable()):
        raise LocalError(f"no {name}: {where} holds characters that no token has")
    return tokens[0]
