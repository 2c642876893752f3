"""Lines over two logarithmic axes, as SVG: enough to see whether something grows in proportion."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 80, 170, 48, 56
COLOURS = ("#0b5cad", "#c2410c", "#12703c", "#7a3fa0", "#6b7280")
Points = Sequence[tuple[float, float]]


class _Axis:
    """A logarithmic axis from one whole power of ten to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def log_plot(title: str, across: str, up: str, lines: Mapping[str, Points]) -> str:
    """Plot named lines, each with a dotted one beside it that grows in proportion.

    The dotted line goes through the line's last point.
    """
    points = [point for line in lines.values() for point in line]
    x = _Axis([at for at, _ in points], LEFT, WIDTH - RIGHT)
    y = _Axis([value for _, value in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
        *_grid(x, y),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, across, "middle"),
        f'<text transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(up)}</text>',
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts += _line(x, y, line, colour)
        parts.append(_legend(number, name, colour))
    parts.append(_text(WIDTH - RIGHT + 16, TOP + 22 * len(lines) + 12, "dotted: in proportion"))
    return "\n".join([*parts, "</svg>", ""])


def _grid(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for value in x.ticks():
        at = x.at(value)
        parts.append(_stroke(at, TOP, at, HEIGHT - BOTTOM))
        parts.append(_text(at, HEIGHT - BOTTOM + 18, f"{value:,g}", "middle"))
    for value in y.ticks():
        at = y.at(value)
        parts.append(_stroke(LEFT, at, WIDTH - RIGHT, at))
        parts.append(_text(LEFT - 8, at + 4, f"{value:,g}", "end"))
    return parts


def _line(x: _Axis, y: _Axis, line: Points, colour: str) -> list[str]:
    path = " ".join(f"{x.at(at):.1f},{y.at(value):.1f}" for at, value in line)
    last_at, last = line[-1]
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    parts += [
        f'<circle cx="{x.at(at):.1f}" cy="{y.at(value):.1f}" r="3.5" fill="{colour}"/>'
        for at, value in line
    ]
    # Only as far as it stays inside of the picture.
    first_at = max(line[0][0], last_at * 10.0**y.low / last)
    ends = (x.at(first_at), y.at(last * first_at / last_at), x.at(last_at), y.at(last))
    shape = 'x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"'.format(*ends)
    parts.append(f'<line {shape} stroke="{colour}" stroke-dasharray="2 4"/>')
    return parts


def _legend(number: int, name: str, colour: str) -> str:
    at = TOP + 22 * number
    return (
        f'<rect x="{WIDTH - RIGHT + 16}" y="{at}" width="12" height="12" fill="{colour}"/>'
        + _text(WIDTH - RIGHT + 34, at + 11, name)
    )


def _stroke(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dde2ea"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
