import io

from tobogganing.progress import Progress, counted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_for_each_quarter() -> None:
    stream = io.StringIO()
    with Progress("registered", 4000, stream, counted) as progress:
        for _ in range(4000):
            progress.add(1)
    assert stream.getvalue().splitlines() == [
        "registered: 1,000 of 4,000",
        "registered: 2,000 of 4,000",
        "registered: 3,000 of 4,000",
        "registered: 4,000 of 4,000",
    ]


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    with Progress("Kafka", 2_000_000, stream) as progress:
        progress.add(1_000_000)
        progress.add(1_000_000)
    drawn = stream.getvalue().split("\r")
    assert drawn[1] == "Kafka [" + "#" * 15 + "-" * 15 + "] 1.0 of 2.0 MB"
    assert drawn[-1] == "Kafka [" + "#" * 30 + "] 2.0 of 2.0 MB\n"
