"""Renders the samples of an entity in the Prometheus text format.

A sample line is the same in text format 0.0.4 and in OpenMetrics 1.0: the family's name, the
labels, the value. All samples of an entity have the same labels, so its rendered form has them
once, then one value per family:

    {client_id="c-1",name="Ann's box"}
    1048576
    60.25

Labels are formatted as prometheus-client does. Numbers are formatted as in the row:
prometheus-client would write 1048576 as 1.048576e+06, which is longer and takes five times as long.
Characters that names must not contain are replaced (older versions allowed them, and a row can be
written by hand), so that each sample is one line for every reader. Series stay distinct, because
ids contain no such characters.

Rendered samples are str with one character per UTF-8 byte (Latin-1): str.join takes half the time
of bytes.join, which creates a buffer object per part.
"""

from collections.abc import Sequence
from itertools import compress

from msgspec import UNSET, Struct
from msgspec.structs import astuple

from contract.kinds import EntityKind, Metric, replace_refused
from exporter.state.row_decoder import RenderRow

NO_SERIES = ""
"""Rendered form of an entity without series."""
NO_VALUE = ""
"""Rendered value of a metric that the entity has never sent; it gets no line."""


def utf8_as_latin1(text: bytes) -> str:
    return text.decode("latin-1")


def latin1_as_utf8(text: str) -> bytes:
    return text.encode("latin-1")


def family_header(metric: Metric) -> bytes:
    """Return `# HELP` and `# TYPE` of a family, without the last line feed."""
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} gauge".encode()


def escape(value: str) -> str:
    """Escape a label value that contains no line feed."""
    return value.replace("\\", r"\\").replace('"', r"\"")


def missing_series(rendered: str) -> int:
    """Return the number of families for which a rendered entity has no value."""
    if "\n\n" not in rendered:
        return 0
    return rendered.split("\n").count(NO_VALUE) - 1  # nothing follows the last line feed


class EntityRenderer:
    """Renders the entities of one kind."""

    def __init__(self, kind: EntityKind) -> None:
        names = sorted(kind.label_names)
        labels = ",".join(f'{name}="%s"' for name in names)
        self._label_template = "{" + labels + "} \n"
        self._value_template = "%s\n" * len(kind.families)
        self._id_position = names.index(kind.id_label)

    def labels(self, id: str, labels: Struct) -> str:
        """Return the first line of an entity's rendered samples, from decoded labels."""
        values = list(astuple(labels))
        values.insert(self._id_position, id)
        text = "".join(values)
        if '"' in text or "\\" in text or not text.isprintable():
            values = [escape(replace_refused(value)) for value in values]
        rendered = self._label_template % (*values,)
        return rendered if rendered.isascii() else utf8_as_latin1(rendered.encode())

    def values(self, row: RenderRow) -> str:
        """Return the other lines."""
        values = astuple(row.metrics)
        if UNSET in values:
            values = tuple(NO_VALUE if value is UNSET else value for value in values)
        return self._value_template % (*values, row.last_check_in)


class FamilyAssembler:
    """Assembles the sample lines of one kind's families from rendered entities."""

    def __init__(self, kind: EntityKind) -> None:
        self.headers = [family_header(metric) for metric in kind.families]
        """First bytes of each family."""
        self._names = ["\n" + metric.name for metric in kind.families]

    def assemble(self, rendered: Sequence[str]) -> list[bytes]:
        """Return the sample lines of each family, each preceded by a line feed."""
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
