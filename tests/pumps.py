"""Worst inputs of a regular expression, derived from its own parts.

A pattern takes super-linear time where it reads the same text again and again: two repetitions that
match the same characters next to each other, or one that is tried anew at each position. So each
part of the pattern is repeated at the start of each repetition, and followed by text that cannot
match.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, AnyStr

ENDS = ("", "\0", "x", "\n", '"', "`")
"""Texts that may follow the repeated text."""
_CANDIDATES = "aA0 -_.:;,=\"'`\\/~!\t\r\n\x01\u00e9[]{}()<>|$%^&*+?@#"
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)


def pumps(pattern: "re.Pattern[AnyStr]") -> Iterator[tuple[str, str, str]]:
    """Yield (prefix, pump, end) for inputs `prefix + n * pump + end`."""
    text = pattern.pattern
    source = text if isinstance(text, str) else text.decode("latin-1")
    tree: Any = parser.parse(source, pattern.flags & ~re.UNICODE)
    prefixes = {"", *_prefixes(tree, "")}
    repeated = {piece for piece in _pieces(tree) if piece}
    yield from itertools.product(sorted(prefixes), sorted(repeated), ENDS)


def _prefixes(nodes: Sequence[Any], before: str) -> Iterator[str]:
    """The shortest texts that bring a match to each repetition."""
    for code, value in nodes:
        if code in _REPEATS:
            yield before
            yield from _prefixes(value[2], before)
        else:
            for part in _parts(code, value):
                yield from _prefixes(part, before)
        before += _example([(code, value)])


def _pieces(nodes: Sequence[Any]) -> Iterator[str]:
    """Examples of all parts, of runs of literal characters, and of the parts with all optional
    ones."""
    yield _example(nodes)
    yield _example(nodes, full=True)
    for is_literal, run in itertools.groupby(nodes, lambda node: node[0] is codes.LITERAL):
        if is_literal:
            yield "".join(chr(value) for _, value in run)
    for code, value in nodes:
        yield _example([(code, value)], full=True)
        for part in _parts(code, value):
            yield from _pieces(part)


def _parts(code: Any, value: Any) -> Iterator[Sequence[Any]]:
    if code in _REPEATS:
        yield value[2]
    elif code is codes.SUBPATTERN:
        yield value[3]
    elif code is codes.BRANCH:
        yield from value[1]
    elif code is codes.ATOMIC_GROUP:
        yield value
    elif code in (codes.ASSERT, codes.ASSERT_NOT):
        yield value[1]


def _example(nodes: Sequence[Any], *, full: bool = False) -> str:
    """A text that the nodes match, the shortest one or one with all that is optional."""
    made = ""
    for code, value in nodes:
        if code is codes.LITERAL:
            made += chr(value)
        elif code is codes.ANY:
            made += "x"
        elif code in (codes.IN, codes.NOT_LITERAL, codes.CATEGORY):
            made += _character(code, value)
        elif code in _REPEATS:
            made += max(value[0], int(full)) * _example(value[2], full=full)
        elif code in (codes.SUBPATTERN, codes.BRANCH, codes.ATOMIC_GROUP):
            made += _example(next(iter(_parts(code, value))), full=full)
    return made


def _character(code: Any, value: Any) -> str:
    """A character of a set; the likeliest that others match as well."""
    single = parser.SubPattern(parser.State(), [(code, value)])
    from re import _compiler  # type: ignore[attr-defined]

    compiled = _compiler.compile(single)
    for character in itertools.chain(_CANDIDATES, map(chr, range(0x3000))):
        if compiled.fullmatch(character):
            return character
    raise AssertionError(f"no example of {value}")
