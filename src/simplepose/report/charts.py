"""Charts as inline SVG: lines over axes with round ticks, spans over time. Colours are the page's
own variables, so they change with its theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 420, 250
SPANS_WIDTH = 840
"""Spans over time take the whole page."""
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 34
"""Room around the axes."""
COLOURS = 6
"""The page's line colours are --c0 and so on."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False
    """Mark every point."""
    dashed: bool = False


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """Lines over common axes, which cover all finite points unless a range is given."""
    points = [
        [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        for one in series
    ]
    spread = [point for line in points for point in line]
    x_ticks = ticks(*(x_range or _range([x for x, _ in spread])))
    y_ticks = ticks(*(y_range or _range([y for _, y in spread])))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + across * wide, 1), round(HEIGHT - BOTTOM - up * high, 1)

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img">').format(WIDTH, HEIGHT)]
    parts += _axes(x_ticks, y_ticks, place)
    parts.append(_text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 4, x_label, "middle"))
    turned = Markup('<text transform="translate(11,{}) rotate(-90)" text-anchor="middle">{}</text>')
    parts.append(turned.format(TOP + (HEIGHT - TOP - BOTTOM) / 2, y_label))
    for index, (one, line) in enumerate(zip(series, points, strict=True)):
        parts += _line(one, f"var(--c{index % COLOURS})", line, [place(*point) for point in line])
    return Markup("").join([*parts, Markup("</svg>"), legend([one.name for one in series])])


def _line(
    one: Series,
    colour: str,
    values: Sequence[tuple[float, float]],
    places: Sequence[tuple[float, float]],
) -> Iterator[Markup]:
    """One line, and its dots, which tell their values."""
    path = " ".join(f"{x},{y}" for x, y in places)
    dash = Markup(' stroke-dasharray="5 4"') if one.dashed else ""
    yield Markup('<polyline points="{}" style="stroke:{}"{}/>').format(path, colour, dash)
    for (x, y), (left, top) in zip(values, places, strict=True) if one.dots else ():
        dot = '<circle cx="{}" cy="{}" r="3" style="fill:{}"><title>{}: {:.4g}, {:.4g}</title>'
        yield Markup(dot + "</circle>").format(left, top, colour, one.name, x, y)


def legend(names: Sequence[str]) -> Markup:
    """Which colour is whose."""
    key = Markup('<span><i class="key" style="background:var(--c{})"></i>{}</span>')
    keys = [key.format(index % COLOURS, name) for index, name in enumerate(names)]
    return Markup('<div class="legend">{}</div>').format(Markup("").join(keys))


def span_chart(
    spans: Mapping[str, Sequence[tuple[float, float, int]]], x_label: str, last: float
) -> Markup:
    """A line a name: (from, to, colour) spans over time from 0 to `last`."""
    x_ticks, line = ticks(0, max(last, 1)), 14
    left, bottom = 70, TOP + line * len(spans)
    scale = (SPANS_WIDTH - left - RIGHT) / x_ticks[-1]
    parts = [Markup('<svg viewBox="0 0 {} {}" role="img">').format(SPANS_WIDTH, bottom + BOTTOM)]
    for tick in x_ticks:
        x = round(left + tick * scale, 1)
        rule = Markup('<line class="axis" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>')
        parts.append(rule.format(x, TOP, bottom))
        parts.append(_text(x, bottom + 14, f"{tick:g}", "middle"))
    for index, (name, own) in enumerate(spans.items()):
        y = TOP + line * index
        parts.append(_text(left - 5, y + 11, name, "end"))
        for start, end, colour in own:
            box = '<rect x="{}" y="{}" width="{}" height="{}" rx="2" style="fill:var(--c{})">'
            box += "<title>{}: {:g} to {:g}</title></rect>"
            wide = round(max((end - start) * scale, 1.5), 1)
            x = round(left + start * scale, 1)
            numbers = x, y + 2, wide, line - 4, colour % COLOURS, name, start, end
            parts.append(Markup(box).format(*numbers))
    parts.append(_text(left + (SPANS_WIDTH - left - RIGHT) / 2, bottom + 28, x_label, "middle"))
    return Markup("").join([*parts, Markup("</svg>")])


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At least two round numbers at equal steps of 1, 2 or 5 x 10^n that cover low to high."""
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    raw = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _axes(
    x_ticks: list[float],
    y_ticks: list[float],
    place: Callable[[float, float], tuple[float, float]],
) -> list[Markup]:
    parts = []
    rule = Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    for tick in x_ticks:
        parts.append(rule.format(*place(tick, y_ticks[0]), *place(tick, y_ticks[-1])))
        x, y = place(tick, y_ticks[0])
        parts.append(_text(x, y + 13, f"{tick:g}", "middle"))
    for tick in y_ticks:
        parts.append(rule.format(*place(x_ticks[0], tick), *place(x_ticks[-1], tick)))
        x, y = place(x_ticks[0], tick)
        parts.append(_text(x - 5, y + 4, f"{tick:g}", "end"))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)
