"""A plan as an SVG picture: layers as bands, as they are stacked, modules in them, lines to what they depend on.

The darker a module is, the more often it changes. Of a layer with many modules the largest are drawn; the names are
strangers', and are text only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from layerfs.plan.units import Units, chance_of
from layerfs.sys.terminal import one_line

WIDTH: Final = 1200  # pixels, as all below
_MARGIN: Final = 16
_LEFT: Final = 210  # where the modules begin
_BOX: Final = 20  # height of a module
_GAP: Final = 6
_LETTER: Final = 6.6  # width of one at 11 pixels
_NAME: Final = 28  # letters of a name that are shown
_DRAWN: Final = 60  # modules of one layer
_LINES: Final = 3000  # in all
_FEW: Final = 100  # lines up to which they are drawn strongly
_SHADES: Final = ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c")
_WHITE_TEXT: Final = 5  # from this shade on


@dataclass(frozen=True, slots=True)
class _Box:
    """A module in the picture."""

    x: float
    y: float
    width: float
    name: str
    shown: str
    shade: int
    told: str


def draw(units: Units, document: Mapping[str, Any]) -> str:
    """Return a picture of a plan [as `describe` returns it] over the graph that it is for."""
    chances = _chances(units)
    boxes: dict[str, _Box] = {}
    bands: list[str] = []
    y = float(_MARGIN + 24)
    for layer in reversed(document["layers"]):
        bottom = y
        for box in _row(layer["modules"], chances, y + _GAP):
            if box.name:
                boxes[box.name] = box
            bands.append(_drawn(box))
            bottom = max(bottom, box.y + _BOX + _GAP)
        bottom = max(bottom, y + 2 * _BOX)
        bands.insert(0, _band(layer, y, bottom - y))
        y = bottom + _GAP
    lines = list(_lines(units, boxes))
    title = (
        f"{document['graph']}: {len(document['layers'])} layers, {_size(document['expected_bytes'])} expected per build"
    )
    height = y + _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>',
            f'<text x="{_MARGIN}" y="{_MARGIN + 10}" font-size="14">{_text(title)}</text>',
            *(line for line in bands if line.startswith("<rect")),
            f'<g fill="none" stroke="#d95f02" stroke-opacity="{0.5 if len(lines) < _FEW else 0.15}">',
            *lines,
            "</g>",
            *(line for line in bands if line.startswith("<g>")),
            "</svg>\n",
        ]
    )


def _chances(units: Units) -> dict[str, float]:
    weights = units.weights()
    modules = units.graph.modules
    return {modules[m].name: chance_of(weights[unit]) for unit, group in enumerate(units.members) for m in group}


def _row(modules: Sequence[Mapping[str, Any]], chances: Mapping[str, float], top: float) -> Iterator[_Box]:
    """Yield the boxes of a layer, in rows, the largest modules first."""
    ranked = sorted(modules, key=lambda module: (-module["bytes"], module["name"]))
    x, y = float(_LEFT), top
    rest = ranked[_DRAWN:]
    for module in [*ranked[:_DRAWN], *([None] if rest else [])]:
        if module is None:
            shown, name, shade, told = f"and {len(rest)} smaller ones", "", 0, ""
        else:
            name = module["name"]
            shown = name if len(name) <= _NAME else name[: _NAME - 1] + "\u2026"
            shade = min(len(_SHADES) - 1, int(chances.get(name, 0.0) ** 0.5 * len(_SHADES)))
            told = f"{name} {module['version']}, {_size(module['bytes'])}: {module['why']}"
        width = len(shown) * _LETTER + 10
        if x + width > WIDTH - _MARGIN:
            x, y = float(_LEFT), y + _BOX + _GAP
        yield _Box(x, y, width, name, shown, shade, told)
        x += width + _GAP


def _band(layer: Mapping[str, Any], y: float, height: float) -> str:
    what = f"{_size(layer['bytes'])}, changes in {layer['probability']:.0%}"
    return (
        f'<rect x="{_MARGIN}" y="{y:.0f}" width="{WIDTH - 2 * _MARGIN}" height="{height:.0f}" fill="#f4f4f4" '
        f'stroke="#bbbbbb"/><text x="{_MARGIN + 8}" y="{y + 16:.0f}" font-weight="bold">layer {layer["id"]}</text>'
        f'<text x="{_MARGIN + 8}" y="{y + 32:.0f}">{_text(what)}</text>'
    )


def _drawn(box: _Box) -> str:
    ink = "white" if box.shade >= _WHITE_TEXT else "black"
    return (
        f"<g><title>{_text(box.told)}</title>"
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{_BOX}" rx="3" stroke="#555555" '
        f'fill={quoteattr(_SHADES[box.shade])}/><text x="{box.x + 5:.1f}" y="{box.y + 14:.1f}" fill="{ink}" '
        f'textLength="{box.width - 10:.1f}">{_text(box.shown)}</text></g>'
    )


def _lines(units: Units, boxes: Mapping[str, _Box]) -> Iterator[str]:
    """Yield curves from modules to what they depend on, as far as both are drawn."""
    graph, count = units.graph, 0
    for module, lowers in zip(graph.modules, graph.depends, strict=True):
        one = boxes.get(module.name)
        for lower in lowers if one is not None else ():
            other = boxes.get(graph.modules[lower].name)
            if one is None or other is None or count >= _LINES:
                continue
            count += 1
            below = other.y > one.y
            x1, y1 = one.x + one.width / 2, one.y + (_BOX if below else 0)
            x2, y2 = other.x + other.width / 2, other.y + (0 if below else _BOX)
            bend = 25 if below else -25
            yield f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"/>'


def _text(text: str) -> str:
    """Return text that XML may hold: one line, no control characters, no half characters."""
    clean = one_line(text).encode("utf-8", "replace").decode()
    return escape("".join(letter for letter in clean if letter >= " " and letter not in "\ufffe\uffff"))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
