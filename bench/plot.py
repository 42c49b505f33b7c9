"""Plots as SVG: bars of ratios, bars of percentiles, and curves over time. Plain text out, nothing needed to draw it."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from xml.sax.saxutils import escape

import msgspec

__all__ = ["Bar", "Group", "bars", "curves"]

WIDTH = 860
LABEL = 270
LABEL_CHARACTERS = 33
RIGHT = 96
BAR = 16
GAP = 4
BETWEEN = 14
TOP = 76
TICKS = 5
_COLOURS = {"nginx": "#8a94a3", "Tidegate": "#0f8b8d", "LiteLLM": "#d1495b", "Portkey": "#c9a227", "direct": "#c4cad3"}
_OTHERS = ("#0f8b8d", "#3d5a98", "#d1495b", "#c9a227", "#6b4e9b")
_INK = "#1f2933"
_FAINT = "#667085"
_LINE = "#e4e7ec"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK SC', 'PingFang SC', sans-serif"
CURVE_HEIGHT = 150


class Bar(msgspec.Struct):
    """One bar with whiskers from `low` to `high`."""

    name: str
    value: float
    low: float
    high: float


class Group(msgspec.Struct):
    """Bars under one label; `limit` is where a mark stands, if anywhere."""

    label: str
    bars: list[Bar]
    limit: float | None = None


def bars(title: str, subtitle: str, groups: Sequence[Group], *, unit: str = "", mark: float | None = None) -> str:
    """Horizontal bars; the scale is logarithmic when they differ too much for a linear one. `mark` is a line through all."""
    found = [bar for group in groups for bar in group.bars]
    names = list(dict.fromkeys(bar.name for bar in found))
    positive = [bar.value for bar in found if bar.value > 0]
    most = max([bar.high for bar in found] + [group.limit or 0.0 for group in groups] + [mark or 0.0, 1e-9])
    logarithmic = bool(positive) and most / min(positive) > 40
    scale = _Scale(min([*positive, mark or most]) if logarithmic else 0.0, most, logarithmic=logarithmic)
    height = TOP + sum(len(group.bars) * (BAR + GAP) + BETWEEN for group in groups) + 34
    out = _head(title, subtitle, height)
    out += _legend(names)
    bottom = height - 34
    for tick in scale.ticks():
        x = scale.at(tick)
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="{_LINE}"/>')
        out.append(_text(x, bottom + 18, _number(tick) + unit, anchor="middle", size=11, fill=_FAINT))
    y = TOP
    marks: list[str] = []
    labels: list[str] = []
    for group in groups:
        inside = len(group.bars) * (BAR + GAP) - GAP
        rows = wrap(group.label, LABEL_CHARACTERS)
        for number, row in enumerate(rows):
            middle = y + inside / 2 + 4 + (number - (len(rows) - 1) / 2) * 15
            out.append(_text(LABEL - 12, middle, row, anchor="end"))
        if group.limit is not None:
            x = scale.at(group.limit)
            path = f"M{x:.1f} {y - 4}V{y + inside + 4}"
            marks.append(f'<path d="{path}" stroke="#b42318" stroke-width="2" stroke-dasharray="3 2"/>')
        for bar in group.bars:
            end = max(scale.at(bar.value), LABEL + 1.0) if bar.value > 0 else LABEL + 1.0
            out.append(
                f'<rect x="{LABEL}" y="{y}" width="{end - LABEL:.1f}" height="{BAR}" rx="2" fill="{_colour(bar.name, names)}"/>'
            )
            right = end
            if bar.high > bar.low:
                low, right = scale.at(max(bar.low, 0.0)), max(scale.at(bar.high), end)
                middle = y + BAR / 2
                out.append(
                    f'<path d="M{low:.1f} {middle}H{right:.1f}M{low:.1f} {middle - 3}v6M{right:.1f} {middle - 3}v6" '
                    f'stroke="{_INK}" stroke-opacity=".55" fill="none"/>'
                )
            labels.append(_text(right + 6, y + BAR - 4, _number(bar.value) + unit, size=12, halo=True))
            y += BAR + GAP
        y += BETWEEN
    if mark is not None:
        x = scale.at(mark)
        marks.append(
            f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="{_INK}" stroke-dasharray="2 3"/>'
        )
    return "\n".join([*out, *marks, *labels, "</svg>", ""])


def curves(
    title: str, subtitle: str, minutes: Sequence[float], found: Mapping[str, Sequence[float]], *, axis: str
) -> str:
    """One panel under the other, each with its own scale from zero, over the same minutes, which `axis` names."""
    height = TOP + len(found) * (CURVE_HEIGHT + 40) + 20
    out = _head(title, subtitle, height)
    last = max([*minutes, 1e-9])
    right = WIDTH - 40
    left = 80
    for number, (name, values) in enumerate(found.items()):
        top = TOP + 10 + number * (CURVE_HEIGHT + 40)
        bottom = top + CURVE_HEIGHT
        scale = _Scale(0.0, max([*values, 1e-9]) * 1.15, logarithmic=False)
        most = scale.most
        out.append(_text(left, top - 8, name, size=13))
        for value in scale.ticks():
            y = bottom - CURVE_HEIGHT * value / most
            out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{_LINE}"/>')
            out.append(_text(left - 8, y + 4, _number(value), anchor="end", size=11, fill=_FAINT))
        points = " ".join(
            f"{left + (right - left) * minute / last:.1f},{bottom - CURVE_HEIGHT * value / most:.1f}"
            for minute, value in zip(minutes, values, strict=True)
        )
        colour = _OTHERS[number % len(_OTHERS)]
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
        )
    for value in _Scale(0.0, last, logarithmic=False).ticks():
        x = left + (right - left) * value / last
        out.append(_text(x, height - 12, _number(value), anchor="middle", size=11, fill=_FAINT))
    out.append(_text(right, height - 28, axis, anchor="end", size=11, fill=_FAINT))
    return "\n".join([*out, "</svg>", ""])


class _Scale:
    def __init__(self, least: float, most: float, *, logarithmic: bool) -> None:
        self.logarithmic = logarithmic
        self.least = 10 ** math.floor(math.log10(least)) if logarithmic else 0.0
        self.most = most

    def at(self, value: float) -> float:
        room = WIDTH - RIGHT - LABEL
        if not self.logarithmic:
            return LABEL + room * value / self.most
        if value <= self.least:
            return float(LABEL)
        return LABEL + room * math.log(value / self.least) / math.log(self.most / self.least)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            first, last = round(math.log10(self.least)), math.floor(math.log10(self.most))
            return [10.0**power for power in range(first, last + 1)]
        rough = self.most / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
        return [step * number for number in range(int(self.most / step) + 1)]


def _head(title: str, subtitle: str, height: float) -> list[str]:
    frame = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" role="img" font-family="{_FONT}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="#ffffff"/>',
        _text(20, 28, title, size=16, weight="600"),
        _text(20, 48, subtitle, size=12, fill=_FAINT),
    ]


def _legend(names: Sequence[str]) -> list[str]:
    out = []
    x = float(WIDTH - 20)
    for name in reversed(names):
        x -= 8.0 * len(name)
        out.append(_text(x, 28, name, size=12))
        out.append(f'<rect x="{x - 16:.1f}" y="18" width="11" height="11" rx="2" fill="{_colour(name, names)}"/>')
        x -= 30
    return out


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 13,
    fill: str = _INK,
    weight: str = "400",
    halo: bool = False,
) -> str:
    around = ' paint-order="stroke" stroke="#fff" stroke-width="3"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}"{around}>'
        f"{escape(text)}</text>"
    )


def _colour(name: str, names: Sequence[str]) -> str:
    return _COLOURS.get(name) or _OTHERS[list(names).index(name) % len(_OTHERS)]


def _number(value: float) -> str:
    if value and abs(value) < 0.1:
        return f"{value:.3f}".rstrip("0")
    if abs(value) < 10:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:,.1f}".removesuffix(".0") if abs(value) < 100 else f"{value:,.0f}"
