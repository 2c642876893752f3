"""`python -m tests.fuzz.fuzzer TARGET SECONDS SEED FOLDER`: fuzzes one target, guided by coverage.

It is a separate process, because the fuzzer ends it, also at the first fault; the input of a fault
is in FOLDER.
"""

import sys
from pathlib import Path

import atheris

PACKAGES = ["contract", "service", "gateway", "processor", "exporter", "uvicorn", "starlette"]
"""The instrumented packages, which must be imported here first."""
MAX_BYTES = 16 * 1024
"""Maximum length of an input."""
MAX_MEGABYTES = 512
"""Memory limit of the whole process; an input that exceeds it is a bomb."""
SLOWEST = 10
"""Maximum seconds for one input."""


def main(name: str, seconds: int, seed: int, folder: Path) -> None:
    """Fuzz until the time is over, or a fault is found; does not return."""
    with atheris.instrument_imports(include=PACKAGES, enable_loader_override=False):
        from tests.fuzz.seeds import SEEDS, words
        from tests.fuzz.targets import TARGETS

    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, data in enumerate(SEEDS[name]()):
        (corpus / f"seed-{number}").write_bytes(data)
    dictionary = folder / "words"
    dictionary.write_text("".join(f'"{escaped(word)}"\n' for word in words()))
    options = {
        "dict": dictionary,
        "max_total_time": seconds,
        "seed": seed,
        "max_len": MAX_BYTES,
        "rss_limit_mb": MAX_MEGABYTES,
        "timeout": SLOWEST,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    arguments = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], TARGETS[name])
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    """Return a word in libFuzzer's dictionary format."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
