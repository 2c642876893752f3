"""Lines: an entity's samples as /metrics shows them, byte for byte as prometheus-client would.

A sample's line is the same in text 0.0.4 and in OpenMetrics 1.0.
"""

from prometheus_client.utils import floatToGoString

from contract.kinds import EntityKind, Metric
from contract.row import EntityRow, RowError

NO_SERIES = b""
"""Line of a metric that the entity never sent."""
EXACT = 2**53
"""Integers below it are floats without loss; for them, the digits are at hand."""

_EXPONENTS = [f"e+{digits - 1:02d}" for digits in range(len(str(EXACT)) + 1)]


def family_header(metric: Metric) -> bytes:
    """`# HELP` and `# TYPE` of a family."""
    return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} gauge\n".encode()


def escape(value: str) -> str:
    """Escape a label value."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def format_value(value: int | float) -> str:
    """Write a sample's value.

    Raises:
        OverflowError: an integer beyond what a float can hold.
    """
    if type(value) is int and 0 <= value < EXACT:
        digits = str(value)
        if len(digits) <= 6:
            return digits + ".0"
        return f"{digits[0]}.{digits[1:]}".rstrip("0.") + _EXPONENTS[len(digits)]
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


class LineMaker:
    """Makes the lines of one kind's entities."""

    def __init__(self, kind: EntityKind) -> None:
        self._id_label = kind.id_label
        self._label_names = sorted(kind.label_names)
        self._metrics = [(metric.field, metric.name) for metric in kind.metrics]
        self._last_check_in = kind.last_check_in.name

    def lines(self, id: str, row: EntityRow) -> list[bytes]:
        """One line for each of the kind's families in their order, `NO_SERIES` where it has none.

        Raises:
            RowError: a value is no number that a sample can have.
        """
        values = row.labels | {self._id_label: id}
        pairs = [f'{name}="{escape(values.get(name, ""))}"' for name in self._label_names]
        labels = "{" + ",".join(pairs) + "} "
        metrics = row.metrics
        try:
            lines = [
                f"{name}{labels}{format_value(metrics[field])}\n".encode()
                if field in metrics
                else NO_SERIES
                for field, name in self._metrics
            ]
            last = f"{self._last_check_in}{labels}{format_value(row.last_check_in)}\n"
        except OverflowError as error:
            raise RowError(f"not a row: {error}") from error
        lines.append(last.encode())
        return lines
