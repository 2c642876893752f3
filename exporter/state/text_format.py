"""Lines: an entity's samples as /metrics shows them.

A sample's line is the same in text 0.0.4 and in OpenMetrics 1.0: the family's name, the labels,
the value. An entity's labels are the same in all of its lines, so its card holds them once:

    {client_id="c-1",name="Ann's box"}
    1048576
    60.25

Labels are written as prometheus-client writes them, numbers as the row has them: it would turn
1048576 into 1.048576e+06, which says the same in more characters and takes five times as long.
Characters that names may not have (they once could, and anybody can write a row by hand) are
replaced, so that each line is one line to every reader. Series stay different from each other, as
their ids are: an id has none of these characters.

Cards are written in str, a character for each byte of the UTF-8 text (Latin-1): str.join takes
half the time of bytes.join, which makes a buffer object of each part.
"""

from collections.abc import Sequence
from itertools import compress

from msgspec import UNSET
from msgspec.structs import astuple

from contract.kinds import EntityKind, Metric, replace_refused
from exporter.state.row_decoder import RenderRow

NO_SERIES = ""
"""Card of an entity that shows nothing."""
NO_VALUE = ""
"""Value on a card of a metric that the entity never sent: no line."""


def utf8_as_latin1(text: bytes) -> str:
    """Write UTF-8 as lines hold it."""
    return text.decode("latin-1")


def latin1_as_utf8(text: str) -> bytes:
    """Write UTF-8 as it is, again."""
    return text.encode("latin-1")


def family_header(metric: Metric) -> bytes:
    """`# HELP` and `# TYPE` of a family, without the last line end."""
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} gauge".encode()


def escape(value: str) -> str:
    """Escape a label value that has no line end in it."""
    return value.replace("\\", r"\\").replace('"', r"\"")


def missing_series(rendered: str) -> int:
    """Number of families of which a card has no value."""
    if "\n\n" not in rendered:
        return 0
    return rendered.split("\n").count(NO_VALUE) - 1  # what is behind the last line end is none


class EntityRenderer:
    """Writes the cards of one kind's entities."""

    def __init__(self, kind: EntityKind) -> None:
        names = sorted(kind.label_names)
        labels = ",".join(f'{name}="%s"' for name in names)
        self._template = "{" + labels + "} \n" + "%s\n" * len(kind.families)
        self._id_position = names.index(kind.id_label)

    def render(self, id: str, row: RenderRow) -> str:
        """Write an entity's card."""
        labels = list(astuple(row.labels))
        labels.insert(self._id_position, id)
        values = astuple(row.metrics)
        if UNSET in values:
            values = tuple(NO_VALUE if value is UNSET else value for value in values)
        text = "".join(labels)
        if '"' in text or "\\" in text or not text.isprintable():
            labels = [escape(replace_refused(label)) for label in labels]
        rendered = self._template % (*labels, *values, row.last_check_in)
        return rendered if rendered.isascii() else utf8_as_latin1(rendered.encode())


class FamilyAssembler:
    """Makes the lines of one kind's entities from their cards."""

    def __init__(self, kind: EntityKind) -> None:
        self.headers = [family_header(metric) for metric in kind.families]
        """What each family starts with."""
        self._names = ["\n" + metric.name for metric in kind.families]

    def assemble(self, rendered: Sequence[str]) -> list[bytes]:
        """For each family its lines, each with a line end before it, of those who have a value."""
        fields = "".join(rendered).split("\n")
        fields.pop()
        stride = 1 + len(self._names)
        labels = fields[::stride]
        return [
            _join(start, labels, fields[place::stride])
            for place, start in enumerate(self._names, start=1)
        ]


def _join(start: str, labels: list[str], values: list[str]) -> bytes:
    if NO_VALUE in values:
        labels = list(compress(labels, values))
        values = list(filter(None, values))
    parts = [start] * (3 * len(values))
    parts[1::3] = labels
    parts[2::3] = values
    return latin1_as_utf8("".join(parts))
