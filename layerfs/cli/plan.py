"""`layerfs plan`: which modules share a layer."""

import argparse
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from layerfs.cli.sources import opened
from layerfs.cli.table import columns
from layerfs.errors import WrongUsage
from layerfs.plan.cost import LAYER_PRICE, MOVE_PRICE, Prices
from layerfs.plan.document import describe, read_previous
from layerfs.plan.jsonfile import read_history, with_history
from layerfs.plan.planner import make_plan
from layerfs.plan.record import source_of
from layerfs.plan.sources import parse_words
from layerfs.plan.tree import UNOWNED
from layerfs.plan.units import make_units
from layerfs.sys.terminal import json_text, one_line

_MOST_PRICE: Final = 1e15  # as much as a petabyte that is sent; sums stay exact enough
DESCRIPTION: Final = """\
Divide the modules of a graph into at most K layers so that the next builds re-transfer few bytes: modules that change
together share a layer, large ones that rarely change lie apart from small ones that often do. SOURCE is one of

  FILE.json     a graph, as docs/plan.md describes it
  dot:FILE      a build graph, as bazel query --output=graph prints it; --sizes says where the outputs lie
  dpkg:ROOT     the Debian packages of a root filesystem; their changelogs tell how often they change
  oci:REF       the same of an image, which is pulled if the store does not have it
  python:PREFIX the distributions of a Python environment
  xar:FILE...   XARs and all that they depend on

The layers are printed in the order of the stack: in the text the topmost first, in JSON the bottom first."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to the command line."""
    parser = subparsers.add_parser(
        "plan",
        help="say which modules share a layer",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="where the modules are read from")
    parser.add_argument("-k", type=int, required=True, metavar="K", help="at most so many layers")
    parser.add_argument("--previous", metavar="PLAN", help="the plan before: modules move only where that pays")
    parser.add_argument("--history", metavar="FILE", help="JSON: which modules each build changed")
    parser.add_argument("--sizes", metavar="DIR", help="where the outputs lie that dot:FILE names")
    parser.add_argument(
        "--layer-price", type=float, default=LAYER_PRICE, metavar="BYTES", help="of a layer more (default: %(default)s)"
    )
    parser.add_argument(
        "--move-price",
        type=float,
        default=MOVE_PRICE,
        metavar="FACTOR",
        help="of each byte that leaves its layer of the plan before (default: %(default)s)",
    )
    parser.add_argument("-o", "--output", metavar="PLAN", help="write the plan to this file, as JSON")
    parser.add_argument("--svg", metavar="FILE", help="draw the layers over the graph into this file")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    for name in ("layer_price", "move_price"):
        price = getattr(arguments, name)
        if not (math.isfinite(price) and 0 <= price <= _MOST_PRICE):
            raise WrongUsage(f"--{name.replace('_', '-')} is {price}", "give a number that is 0 or more")
    words = parse_words(arguments.source, arguments.sizes, os.getcwdb())
    with opened(words) as source:
        graph, packable = source.graph, source.tree is not None
    if arguments.history is not None:
        graph = with_history(graph, read_history(os.fsencode(arguments.history)))
    units = make_units(graph)
    before = (
        read_previous(os.fsencode(arguments.previous), units) if arguments.previous is not None else ((), frozenset())
    )
    prices = Prices(arguments.layer_price, arguments.move_price, *before)
    found = make_plan(units, arguments.k, prices)
    shown = describe(units, found, arguments.k, prices, source_of(words) if packable else None)
    text = json_text(shown) + "\n"
    if arguments.output is not None:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    if arguments.svg is not None:
        from layerfs.plan.picture import draw

        with open(arguments.svg, "w", encoding="utf-8") as file:
            file.write(draw(units, shown))
    print(text if arguments.json else "\n".join(map(one_line, _lines(shown))) + "\n", end="")
    return 0


def _lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Yield a plan's lines: the layers, top first, with their modules, then what others would cost."""
    for layer in reversed(shown["layers"]):
        expected = f"{_size(layer['expected_bytes'])} expected per build"
        yield f"layer {layer['id']}: {_size(layer['bytes'])}, {expected}: {layer['why']}"
        rows = [[f"  {m['name']}", m["version"], _size(m["bytes"]), m["why"]] for m in layer["modules"]]
        yield from columns(rows)
    yield ""
    unowned = next((m["files"] for layer in shown["layers"] for m in layer["modules"] if m["name"] == UNOWNED), 0)
    if unowned:
        yield f"{unowned} files are no module's: they are {UNOWNED}"
    count = len(shown["layers"])
    rows = [["plan", f"{count} layers", _share(shown, shown["expected_bytes"])]]
    for other in shown["alternatives"]:
        note = "" if other["respects_k"] else f" (more than {shown['k']} layers)"
        rows.append([other["name"], f"{other['layers']} layers", _share(shown, other["expected_bytes"]) + note])
    yield "expected bytes per build:"
    yield from (f"  {line}" for line in columns(rows))
    if "stays" in str(shown["layers"]) or shown["moved_bytes"]:
        yield f"sent now: {_size(shown['sent_bytes'])}; moved to another layer: {_size(shown['moved_bytes'])}"


def _share(shown: Mapping[str, Any], expected: int) -> str:
    return f"{_size(expected)}, {expected / max(1, shown['bytes']):.1%} of all"


def _size(count: float) -> str:
    """Return bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
