"""Lines: an entity's samples as /metrics shows them, byte for byte as prometheus-client would.

A sample's line is the same in text 0.0.4 and in OpenMetrics 1.0: the family's name, the labels,
the value. An entity's labels are the same in all of its lines, so its card holds them once:

    {client_id="c-1",name="Ann's box"}
    1.048576e+06
    60.25

Cards are written in str, a character for each byte of the UTF-8 text (Latin-1): str.join takes
half the time of bytes.join, which makes a buffer object of each part.
"""

from collections.abc import Sequence
from itertools import compress

from msgspec import UNSET
from msgspec.structs import astuple
from prometheus_client.utils import floatToGoString

from contract.kinds import EntityKind, Metric
from contract.row import RowError
from exporter.rows import ShownRow

NO_SERIES = ""
"""Card of an entity that shows nothing."""
NO_VALUE = ""
"""Value on a card of a metric that the entity never sent: no line."""
EXACT = 2**53
"""Integers below it are floats without loss; for them, the digits are at hand."""
TIMES = 1e12
"""Below it a decimal with three places has at most 15 digits: no two of them are one float."""
PLAIN = 1_000_000
"""From here on a value is written with an exponent."""

_EXPONENTS = [f"e+{digits - 1:02d}" for digits in range(len(str(EXACT)) + 1)]


def in_place_of_bytes(text: bytes) -> str:
    """Write UTF-8 as lines hold it."""
    return text.decode("latin-1")


def to_bytes(text: str) -> bytes:
    """Write UTF-8 as it is, again."""
    return text.encode("latin-1")


def family_header(metric: Metric) -> bytes:
    """`# HELP` and `# TYPE` of a family, without the last line end."""
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} gauge".encode()


def escape(value: str) -> str:
    """Escape a label value."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def format_value(value: int | float) -> str:
    """Write a sample's value.

    Raises:
        OverflowError: an integer beyond what a float can hold.
    """
    if type(value) is int:
        if PLAIN <= value < EXACT:
            digits = str(value)
            if value % 10:
                return f"{digits[0]}.{digits[1:]}{_EXPONENTS[len(digits)]}"
            return f"{digits[0]}.{digits[1:]}".rstrip("0.") + _EXPONENTS[len(digits)]
        if 0 <= value < PLAIN:
            return f"{value}.0"
    elif 0 <= value < PLAIN:
        return f"{value!r}"
    elif PLAIN <= value < TIMES:
        # repr() searches for the fewest digits; where three decimals will do, they are at hand.
        thousandths = int(value * 1000 + 0.5)
        if thousandths / 1000 == value:
            digits = str(thousandths)
            if thousandths % 10:
                return f"{digits[0]}.{digits[1:]}{_EXPONENTS[len(digits) - 3]}"
            return f"{digits[0]}.{digits[1:]}".rstrip("0.") + _EXPONENTS[len(digits) - 3]
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def series_of(card: str) -> int:
    """Number of lines that a card makes."""
    if card == NO_SERIES:
        return 0
    fields = card.split("\n")
    return len(fields) - fields.count(NO_VALUE) - 1  # the labels are no series


class CardWriter:
    """Writes the cards of one kind's entities."""

    def __init__(self, kind: EntityKind) -> None:
        names = sorted(kind.label_names)
        labels = ",".join(f'{name}="%s"' for name in names)
        self._template = "{" + labels + "} \n" + "%s\n" * len(kind.families)
        self._place_of_id = names.index(kind.id_label)

    def card(self, id: bytes, row: ShownRow) -> str:
        """Write an entity's card.

        Raises:
            RowError: the id is no text, or a value no number that a sample can have.
        """
        labels = list(astuple(row.labels))
        try:
            labels.insert(self._place_of_id, id.decode())
            values = [NO_VALUE if v is UNSET else format_value(v) for v in astuple(row.metrics)]
            last_check_in = format_value(row.last_check_in)
        except (OverflowError, UnicodeDecodeError) as error:
            raise RowError(f"not a row: {error}") from error
        text = "".join(labels)
        if '"' in text or "\\" in text or "\n" in text:
            labels = list(map(escape, labels))
        card = self._template % (*labels, *values, last_check_in)
        return card if text.isascii() else in_place_of_bytes(card.encode())


class LineMaker:
    """Makes the lines of one kind's entities from their cards."""

    def __init__(self, kind: EntityKind) -> None:
        self.headers = [family_header(metric) for metric in kind.families]
        """What each family starts with."""
        self._starts = ["\n" + metric.name for metric in kind.families]

    def lines(self, cards: Sequence[str]) -> list[bytes]:
        """For each family its lines, each with a line end before it, of those who have a value."""
        fields = "".join(cards).split("\n")
        fields.pop()
        stride = 1 + len(self._starts)
        labels = fields[::stride]
        return [
            _join(start, labels, fields[place::stride])
            for place, start in enumerate(self._starts, start=1)
        ]


def _join(start: str, labels: list[str], values: list[str]) -> bytes:
    if NO_VALUE in values:
        labels = list(compress(labels, values))
        values = list(filter(None, values))
    parts = [start] * (3 * len(values))
    parts[1::3] = labels
    parts[2::3] = values
    return to_bytes("".join(parts))
