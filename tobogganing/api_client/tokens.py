"""The installation's tokens, from options, the environment or the local run."""

from collections.abc import Mapping
from pathlib import Path

from tobogganing.devstack.local_run import running_urls, same_origin, without_localhost
from tobogganing.devstack.run_config import read_run_config, start_command
from tobogganing.errors import WrongSettingError


def read_token(name: str, file: str | None, environ: Mapping[str, str], url: str) -> str:
    """Read a token from `file`, else NAME or NAME_FILE in the environment, else the local run.

    A token of the local run is returned only for a `url` of that run: another program may listen
    at any other. If there are several tokens, as during a rotation, the first is returned.

    Raises:
        WrongSettingError: there is no token for `url`, or it has characters that no token has.
    """
    if not file and (text := environ.get(name)):
        return _first(name, text, f"the {name} of the environment")
    named = file or environ.get(f"{name}_FILE")
    path = Path(named) if named else _file_of_local_run(name, environ, url)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSettingError(
            f"no {name}: {path} cannot be read ({error}). Set {name}, or name the file "
            f"that holds it with {option_of(name)}."
        ) from error
    return _first(name, text, str(path))


def _file_of_local_run(name: str, environ: Mapping[str, str], url: str) -> Path:
    config = read_run_config(environ)
    state, urls = config.state, running_urls(config.state)
    if any(same_origin(url, each) for each in urls):
        return state / "secrets" / name
    if not urls and same_origin(without_localhost(url, [config.url]), config.url):
        raise WrongSettingError(
            f"the local run does not run: start it with `{start_command()}`, or set STATE_DIR if "
            "it has another folder. For another installation, set TOBOGGANING_URL (--url) and "
            f"{name} ({option_of(name)})"
        )
    found = f"serves {urls[0]}" if urls else "does not run"
    raise WrongSettingError(
        f"no {name} for {url}: set {name}, or name the file that holds it with {option_of(name)}. "
        f"The tokens in {state} are sent to the local run only, which {found}"
    )


def option_of(name: str) -> str:
    """The option with a token's file: `--admin-token-file` for ADMIN_TOKEN."""
    return f"--{name.lower().replace('_', '-')}-file"


def _first(name: str, text: str, where: str) -> str:
    tokens = text.replace(",", " ").split()
    if not tokens:
        raise WrongSettingError(f"no {name}: {where} is empty")
    if not (tokens[0].isascii() and tokens[0].isprintable()):
        raise WrongSettingError(f"no {name}: {where} has characters that no token has")
    return tokens[0]
