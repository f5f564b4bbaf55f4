"""Snapshots as a person reads them: a table, a tree of parents, or one alone."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from layerfs.store.info import Info
from layerfs.sys.terminal import one_line

_NS: Final = 1_000_000_000
_DEEPEST: Final = 40  # levels that are indented; a deeper one is as far to the right


def as_json(info: Info) -> dict[str, Any]:
    """Return what is known of a snapshot as an object; times are seconds since 1970."""
    return {
        "name": info.name,
        "parent": info.parent or None,
        "kind": info.kind.word,
        "created": info.created / _NS,
        "updated": info.updated / _NS,
        "labels": dict(info.labels),
    }


def print_table(infos: Iterable[Info]) -> None:
    """Print a line for each snapshot: name, parent, kind."""
    rows = [("KEY", "PARENT", "KIND"), *((one_line(i.name), one_line(i.parent), i.kind.word) for i in infos)]
    if len(rows) == 1:
        print("there are no snapshots")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, parent, kind in rows:
        print(f"{name:<{widths[0]}}  {parent:<{widths[1]}}  {kind}")


def print_info(info: Info) -> None:
    """Print all that is known of one snapshot."""
    rows = [
        ("name", info.name),
        ("parent", info.parent or "-"),
        ("kind", info.kind.word),
        ("created", _time(info.created)),
        ("updated", _time(info.updated)),
        *((f"label {name}", content) for name, content in sorted(info.labels.items())),
    ]
    for title, content in rows:
        print(one_line(f"{title}: {content}"))


def print_tree(infos: Iterable[Info]) -> None:
    """Print each snapshot below its parent; one whose parent is not listed is not indented."""
    for line in tree_lines(infos):
        print(one_line(line))


def tree_lines(infos: Iterable[Info]) -> Iterator[str]:
    """Yield the lines of a tree, without recursion: chains may be long."""
    found = {info.name: info for info in infos}
    children: dict[str, list[Info]] = {}
    for info in found.values():
        children.setdefault(info.parent if info.parent in found else "", []).append(info)
    waiting = [(info, "", "", "") for info in reversed(children.get("", []))]
    while waiting:
        info, indent, branch, below = waiting.pop()
        kind = "" if info.kind.word == "committed" else f"  ({info.kind.word})"
        yield f"{indent}{branch}{info.name}{kind}"
        inner = indent + below if len(indent) < 3 * _DEEPEST else indent
        inside = children.get(info.name, [])
        for place, child in reversed(list(enumerate(inside))):
            last = place == len(inside) - 1
            waiting.append((child, inner, "└─ " if last else "├─ ", "   " if last else "│  "))


def _time(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns / _NS))
