"""`python -m tests.fuzz.fuzzer TARGET SECONDS SEED FOLDER`: one target, guided by coverage.

A process of its own: the fuzzer ends it, at the first fault too, whose input it leaves in FOLDER.
"""

import sys
from pathlib import Path

import atheris

PACKAGES = ["contract", "service", "gateway", "processor", "exporter", "uvicorn", "starlette"]
"""What is instrumented: it must be imported here first."""
MAX_BYTES = 16 * 1024
"""Longest input."""
MAX_MEGABYTES = 512
"""Of the whole process, at any time: whoever takes more has found a bomb."""
SLOWEST = 10
"""Seconds that one input may take."""


def main(name: str, seconds: int, seed: int, folder: Path) -> None:
    """Fuzz until the time is over, or something is found; does not return."""
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
    """A word as libFuzzer reads it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
