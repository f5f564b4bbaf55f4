"""A plan as JSON, written and read again; and the words that say why a module is where it is."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from layerfs.errors import InvalidArgument
from layerfs.plan.baselines import BASELINES
from layerfs.plan.cost import Prices, cost, expected_bytes, layer_sizes, layer_weights, moved_bytes, sent_bytes
from layerfs.plan.jsonfile import read_json
from layerfs.plan.planner import LAYERS, stacked
from layerfs.plan.tree import UNOWNED
from layerfs.plan.units import Units, chance_of

FORMAT: Final = "layerfs plan 1"


def describe(
    units: Units, plan: Sequence[int], k: int, prices: Prices, source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a plan as a JSON object; docs/plan.md says what its keys mean. source: where the files are."""
    weights = units.weights()
    sizes, changes = layer_sizes(units, plan), layer_weights(units, plan)
    inside: dict[int, list[int]] = {layer: [] for layer in sizes}
    for unit, layer in enumerate(plan):
        inside[layer].append(unit)
    layers = []
    for layer in stacked(units, plan):
        modules = [entry for unit in inside[layer] for entry in _modules(units, unit, weights, plan, prices)]
        chances = [chance_of(weights[unit]) for unit in inside[layer]]
        layers.append(
            {
                "id": layer,
                "bytes": sizes[layer],
                "probability": round(chance_of(changes[layer]), 6),
                "expected_bytes": round(sizes[layer] * chance_of(changes[layer])),
                "why": f"modules that change in {_range(chances)} of builds",
                "modules": sorted(modules, key=lambda entry: str(entry["name"])),
            }
        )
    return {
        "format": FORMAT,
        "graph": units.graph.name,
        **({"source": dict(source)} if source is not None else {}),
        "k": k,
        "bytes": units.graph.size,
        "expected_bytes": round(expected_bytes(units, plan)),
        "moved_bytes": moved_bytes(units, plan, prices.before),
        "sent_bytes": sent_bytes(units, plan, prices) if prices.before else units.graph.size,
        "cost": round(cost(units, plan, prices)),
        "layer_price": prices.layer,
        "move_price": prices.move,
        "layers": layers,
        "alternatives": [_alternative(units, name, weights, k) for name in BASELINES],
    }


def _alternative(units: Units, name: str, weights: Sequence[float], k: int) -> dict[str, Any]:
    plan = BASELINES[name](units, weights, min(k, LAYERS))
    layers = len(set(plan))
    return {
        "name": name,
        "layers": layers,
        "respects_k": layers <= k,
        "expected_bytes": round(expected_bytes(units, plan)),
    }


def _modules(
    units: Units, unit: int, weights: Sequence[float], plan: Sequence[int], prices: Prices
) -> list[dict[str, Any]]:
    why = _why(units, unit, weights, plan, prices)
    modules = [units.graph.modules[number] for number in units.members[unit]]
    return [{"name": m.name, "version": m.version, "bytes": m.size, "files": m.files, "why": why} for m in modules]


def _why(units: Units, unit: int, weights: Sequence[float], plan: Sequence[int], prices: Prices) -> str:
    """Say in a few words why a unit is in its layer."""
    alone = units.own[unit] + sum(units.own[source] for source in units.made[unit])
    words = [f"changes in {_percent(chance_of(alone))} of builds"]
    if weights[unit] > alone * 1.0001:
        words.append(f"with what rebuilds it in {_percent(chance_of(weights[unit]))}")
    group = units.members[unit]
    if len(group) > 1:
        words.append(f"one of {len(group)} modules that depend on each other in a circle")
    if prices.before:
        old = prices.before[unit]
        stayed = "stays in its layer" if old == plan[unit] else f"moves here from layer {old}"
        words.append("new" if old < 0 else stayed)
    return "; ".join(words)


def _range(chances: Sequence[float]) -> str:
    low, high = _percent(min(chances)), _percent(max(chances))
    return low if low == high else f"{low} to {high}"


def _percent(chance: float) -> str:
    return f"{chance:.2%}" if chance < 0.1 else f"{chance:.0%}"


def read_previous(path: bytes, units: Units) -> tuple[tuple[int, ...], frozenset[int]]:
    """Return the layer that each unit had in a plan, -1 for a new one, and the layers of which nothing has changed.

    The plan is a stranger's. A module has changed if its version or its bytes are others.

    A circle of modules that were in several layers was in the one that had most of its bytes. Raises InvalidArgument
    for what is no plan, and for a plan of another graph: fewer than half of the modules of the smaller of the two are
    in both.
    """
    shown = os.fsdecode(path)
    document = read_json(path)
    layer_of = placed(shown, document)
    names = {module.name for module in units.graph.modules}
    ours, theirs = names - {UNOWNED}, layer_of.keys() - {UNOWNED}  # every tree has that one
    both = len(ours & theirs)
    if 2 * both < min(len(ours), len(theirs)) or not both:
        stranger = min(theirs - ours, default="")
        what = f": {units.graph.name} has no module {stranger}" if stranger else ""
        raise InvalidArgument(f"{shown} is a plan for another graph{what}", "give the previous plan of this graph")
    before = []
    for group in units.members:
        shares: dict[int, int] = {}
        for module in (units.graph.modules[number] for number in group):
            if module.name in layer_of:
                shares[layer_of[module.name]] = shares.get(layer_of[module.name], 0) + module.size + 1
        before.append(max(shares, key=lambda layer: (shares[layer], -layer)) if shares else -1)
    return tuple(before), _clean(document, units)


def _clean(document: Mapping[str, Any], units: Units) -> frozenset[int]:
    now = {module.name: (module.version, module.size) for module in units.graph.modules}
    return frozenset(
        layer["id"]
        for layer in document["layers"]
        if all(now.get(each["name"]) == (each.get("version", ""), each.get("bytes")) for each in layer["modules"])
    )


def placed(shown: str, document: Mapping[str, Any]) -> dict[str, int]:
    """Return the layer of each module of a plan."""
    layers = document.get("layers")
    if document.get("format") != FORMAT or not isinstance(layers, list):
        raise InvalidArgument(f"{shown} is no plan", "give what layerfs plan -o wrote")
    placed: dict[str, int] = {}
    seen = set()
    for layer in layers:
        number = layer.get("id") if isinstance(layer, dict) else None
        modules = layer.get("modules") if isinstance(layer, dict) else None
        if type(number) is not int or not 0 <= number < 1 << 53 or number in seen or not isinstance(modules, list):
            raise InvalidArgument(f"{shown} has a layer without an id of its own or a list of modules", "plan anew")
        seen.add(number)
        for module in modules:
            name = module.get("name") if isinstance(module, dict) else None
            if not isinstance(name, str) or name in placed:
                raise InvalidArgument(f"{shown} has a module without a name, or one twice: {name}", "plan anew")
            placed[name] = number
    return placed
