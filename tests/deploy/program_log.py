"""The programs that the deployment tests have started, for the last lines of `make test-deploy`."""

from collections import Counter

programs: Counter[str] = Counter()


def note(program: str) -> None:
    programs[program] += 1


def lines() -> list[str]:
    return [f"{number:4} x {program}" for program, number in sorted(programs.items())]
