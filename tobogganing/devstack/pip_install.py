"""pip with one progress line instead of a line for each package.

`python -m tobogganing.devstack.pip_install LABEL FOLDER ARGUMENT...`, where FOLDER is where the
packages go, or `-` for this Python's own. Standard library only: `make run` starts with it.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from tobogganing.devstack.progress_line import STOPPED, ProgressLine

KEPT_LINES = 30
"""Lines of pip's output that are shown if it fails."""


class PipError(Exception):
    """pip failed; the text has the end of its output."""


def pip_install(label: str, folder: Path, arguments: list[str]) -> None:
    """Run `pip install`.

    Raises:
        PipError: pip failed.
    """
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-input", "--progress-bar", "off", *arguments]
    output: list[str] = []
    before = _installed(folder)

    def status() -> str:
        found = sum(line.startswith("Collecting ") for line in output)
        if any(line.startswith("Installing collected") for line in output):
            return f"{_installed(folder) - before} of {found} packages installed"
        return f"{found} packages found" if found else ""

    with (
        ProgressLine(label, status),
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)  # noqa: PERF402 (the progress line reads it at the same time)
        if process.wait():
            raise PipError("".join(output[-KEPT_LINES:]).rstrip())


def _installed(folder: Path) -> int:
    return len(list(folder.glob("*.dist-info")))


def main() -> int:
    label, folder, *arguments = sys.argv[1:]
    try:
        pip_install(
            label, Path(sysconfig.get_path("purelib") if folder == "-" else folder), arguments
        )
    except PipError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
