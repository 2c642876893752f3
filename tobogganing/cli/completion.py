"""Completion scripts of zsh and fish, with fixes for those of Click 8.3."""

from click.shell_completion import FishComplete, ZshComplete, add_completion_class


def replaced(script: str, old: str, new: str) -> str:
    """Replace a required part of the script."""
    if old not in script:
        raise ValueError(f"Click's script no longer has {old!r}")
    return script.replace(old, new)


@add_completion_class
class ZshCompletion(ZshComplete):
    """Starts zsh's completion system if the user's configuration has not."""

    source_template = replaced(
        ZshComplete.source_template,
        "    compdef ",
        "    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n    compdef ",
    )


@add_completion_class
class FishCompletion(FishComplete):
    """Shows descriptions that contain commas as they are."""

    source_template = replaced(
        FishComplete.source_template, 'string split ","', 'string split --max 1 ","'
    )
