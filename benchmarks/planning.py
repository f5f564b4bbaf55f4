"""How much do the layers of a Debian root filesystem re-transfer over the years, planned by us and as others do?

    python -m benchmarks.planning ROOT --out DIR [--ks 4,8,16,32,64,128] [--since 2020-06]

One build a month: what the changelogs of ROOT's packages say of a month has changed in that month's build, sizes are
today's. Each planner divides all packages anew for each build, knowing what the changelogs say up to then, and its own
plan of the month before. Sent are the bytes of all layers that did not stand, with the same packages and all of them
unchanged, in the build before. Beside the baselines of layerfs.plan, with the rates that our planner reads (recent) and
with the plain share of months (flat):

greedy of sources  greedy merging of whole source packages instead of single ones
greedy kept        the first greedy plan for ever
foreseen           our planner, told the rates of the months to come: what a better guess could save
each               one layer for each package: no plan sends less
layers at their    our planner with the default of --layer-price, so that it has fewer than K layers where these do
price              not pay
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from layerfs.plan.baselines import BASELINES
from layerfs.plan.cost import LAYER_PRICE, Assignment, Prices
from layerfs.plan.dpkg import YEARS, changelog_months, rate
from layerfs.plan.following import contract
from layerfs.plan.graph import Module, make_graph
from layerfs.plan.planner import align, make_plan
from layerfs.plan.sources import SourceSpec, opened
from layerfs.plan.tree import UNOWNED
from layerfs.plan.units import Units, make_units
from layerfs.xar.search import Search

KS: Final = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class History:
    """Packages as they are today, and the months in which their sources changed."""

    modules: tuple[Module, ...]
    months: dict[str, frozenset[int]]

    @property
    def last(self) -> int:
        """The newest month."""
        return max(map(max, self.months.values()))

    def units(self, month: int, chance: Callable[[str, int], float]) -> Units:
        """Return the packages with the chances that are thought of in a month."""
        changed = (replace(module, chance=chance(module.source, month)) for module in self.modules)
        return make_units(make_graph("history", changed))

    def recent(self, source: str, month: int) -> float:
        """Return the chance as `layerfs plan dpkg:` has it."""
        return rate([when for when in self.months[source] if when <= month], month)

    def flat(self, source: str, month: int) -> float:
        """Return the share of months that have a change."""
        known = [when for when in self.months[source] if month - 12 * YEARS < when <= month]
        return (len(known) + 0.5) / (12 * YEARS + 1)

    def foreseen(self, source: str, month: int) -> float:
        """Return the chance from the months that come, as if time ran backwards from them."""
        return rate([2 * month + 1 - when for when in self.months[source] if when > month], month)


def read_history(root: str) -> History:
    """Read the packages of a root filesystem; those whose source has no changelog are left out."""
    with opened(SourceSpec("dpkg", root), lambda reference: [], lambda: Search([])) as source:
        assert source.tree is not None
        months: dict[str, frozenset[int]] = {}
        for module in source.graph.modules:
            found = changelog_months(source.tree.view, module.name.partition(":")[0])
            if found and module.name != UNOWNED:
                months[module.source] = frozenset(found) | months.get(module.source, frozenset())
        known = {module.name for module in source.graph.modules if module.source in months}
        modules = (module for module in source.graph.modules if module.name in known)
        return History(tuple(replace(m, depends=tuple(d for d in m.depends if d in known)) for m in modules), months)


@dataclass(frozen=True)
class Month:
    """One month: the units as they are thought of, and which of them changed in it."""

    units: Units
    changed: Sequence[bool]


Plan = Callable[[Month, Assignment | None, int], Assignment]


def ours(build: Month, before: Assignment | None, k: int, price: float = 0) -> Assignment:
    """Plan as `layerfs plan --previous` does; without a price for layers all have K."""
    dirty = {layer for layer, changed in zip(before or (), build.changed, strict=False) if changed}
    clean = frozenset(before or ()) - dirty
    return make_plan(build.units, k, Prices(price, before=tuple(before or ()), clean=clean))


def baseline(name: str, build: Month, before: Assignment | None, k: int) -> Assignment:
    """Plan as others do."""
    plan = BASELINES[name](build.units, build.units.weights(), k)
    return align(build.units, plan, before or (), max(k, len(build.units)))


def by_source(build: Month, before: Assignment | None, k: int) -> Assignment:
    """Plan greedily with source packages in place of packages."""
    small, members = contract(build.units, range(len(build.units)), build.units.weights())
    plan = [0] * len(build.units)
    for layer, group in zip(BASELINES["greedy"](small, small.own, k), members, strict=True):
        for unit in group:
            plan[unit] = layer
    return align(build.units, plan, before or (), k)


def kept(build: Month, before: Assignment | None, k: int) -> Assignment:
    """Keep the first plan."""
    return before or by_source(build, None, k)


STRATEGIES: Final[dict[str, tuple[str, Plan]]] = {
    "plan": ("recent", ours),
    "plan, layers at their price": ("recent", partial(ours, price=LAYER_PRICE)),
    **{
        f"{name} ({rates})": (rates, partial(baseline, name))
        for name in ("ostree", "greedy")
        for rates in ("recent", "flat")
    },
    **{name: ("flat", partial(baseline, name)) for name in ("one", "nix", "hashed", "each")},
    "greedy of sources": ("flat", by_source),
    "greedy kept": ("flat", kept),
    "foreseen": ("foreseen", ours),
}


def replay(history: History, name: str, k: int, since: int) -> dict[str, Any]:
    """Replay all months from one on, and return what was sent on average [bytes] and how much stayed."""
    rates, plan = STRATEGIES[name]
    plans: list[list[int]] = []
    sent = reused = layers = moved = least = 0
    before: Assignment | None = None
    for month in range(since - 1, history.last + 1):
        units = history.units(month, getattr(history, rates))
        changed = [month in history.months[units.graph.modules[group[0]].source] for group in units.members]
        before = plan(Month(units, changed), before, k)
        plans.append(before)
        least += sum(size for size, new in zip(units.sizes, changed, strict=True) if new) if len(plans) > 1 else 0
        if len(plans) > 1:
            same = _same(plans[-2], before, changed)
            layers += len(set(before))
            reused += len(same)
            sent += sum(size for layer, size in zip(before, units.sizes, strict=True) if layer not in same)
    sizes = units.sizes
    for one, other in pairwise(plans):
        moved += sum(size for a, b, size in zip(one, other, sizes, strict=True) if a != b)
    builds = len(plans) - 1
    return {
        "planner": name,
        "k": k,
        "builds": builds,
        "layers": layers / builds,
        "sent": sent / builds,
        "changed": least / builds,
        "reused_layers": reused / layers,
        "moved": moved / builds,
    }


def _same(one: Sequence[int], other: Sequence[int], changed: Sequence[bool]) -> set[int]:
    """Return the layers of the second plan that stood in the first one, with nothing in them changed."""
    inside: dict[int, list[int]] = {}
    for unit, layer in enumerate(one):
        inside.setdefault(layer, []).append(unit)
    there = {tuple(group) for group in inside.values()}
    now: dict[int, list[int]] = {}
    for unit, layer in enumerate(other):
        now.setdefault(layer, []).append(unit)
    return {layer for layer, group in now.items() if tuple(group) in there and not any(changed[unit] for unit in group)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return MB sent for each build, and the share of layers reused, as a table in Markdown."""
    ks = sorted({row["k"] for row in rows})
    lines = ["| | " + " | ".join(f"K = {k}" for k in ks) + " |", "|---" * (len(ks) + 1) + "|"]
    for name in dict.fromkeys(row["planner"] for row in rows):
        found = {row["k"]: row for row in rows if row["planner"] == name}
        cells = [f"{found[k]['sent'] / 1e6:.0f} ({found[k]['reused_layers']:.0%})" if k in found else "" for k in ks]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(words: list[str] | None = None) -> int:
    """Replay everything, and write it as JSON and as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ks", type=lambda text: [int(word) for word in text.split(",")], default=list(KS))
    parser.add_argument("--since", default="2020-06", help="the first build, YEAR-MONTH")
    parser.add_argument("--planners", nargs="*", default=list(STRATEGIES))
    asked = parser.parse_args(words)
    year, _, month = asked.since.partition("-")
    since = int(year) * 12 + int(month) - 1
    history = read_history(asked.root)
    with ProcessPoolExecutor(2) as pool:
        tasks = [pool.submit(replay, history, name, k, since) for name in asked.planners for k in asked.ks]
        rows = []
        for task in tasks:
            rows.append(task.result())
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    size = sum(module.size for module in history.modules)
    about = {"packages": len(history.modules), "sources": len(history.months), "bytes": size, "since": asked.since}
    (asked.out / "planning.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    (asked.out / "planning.md").write_text(table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
