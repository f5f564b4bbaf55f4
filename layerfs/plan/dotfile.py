"""A build graph as `bazel query --output=graph` prints it, and where what was built lies.

Read are lines of the forms `"A"`, `"A" -> "B"` and what stands around them in a digraph; attributes are passed over.
Bazel puts labels with the same neighbours into one node, divided by `\\n`; each of them becomes a module.
"""

import os
import re
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import Module
from layerfs.plan.jsonfile import read_text
from layerfs.plan.tree import Claims

_NODE: Final = r'("(?:[^"\\]|\\.)*"|[\w.]+)'
_EDGE: Final = re.compile(rf"{_NODE}(?:\s*->\s*{_NODE})?\s*(?:\[.*\])?\s*;?")
_AROUND: Final = re.compile(
    r"(?:strict\s+)?digraph\b.*\{|\}|(?:node|edge|graph)\s*\[.*\]\s*;?|\w+\s*=\s*[^;]*;?|//.*|#.*|"
)
_CUT: Final = re.compile(r"\.\.\.and \d+ more items")


def read_dot(path: bytes) -> tuple[list[Module], Claims]:
    """Return the modules of a DOT file, without sizes, and where in the directory of all outputs theirs are.

    The output of `//package:name` is `package/name` there, that of `@repository//package:name` is
    `external/repository/package/name`, a file or a directory with all that is in it.
    """
    shown = os.fsdecode(path)
    depends: dict[str, dict[str, None]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        line = line.strip()
        if _AROUND.fullmatch(line):
            continue
        found = _EDGE.fullmatch(line)
        if found is None:
            raise InvalidArgument(
                f"line {number} of {shown} is not understood: {line[:80]}",
                "give what bazel query --output=graph prints",
            )
        uppers, lowers = (_labels(shown, part) for part in found.groups())
        for label in (*uppers, *lowers):
            depends.setdefault(label, {})
        for upper in uppers:
            depends[upper].update(dict.fromkeys(lowers))
    modules = [Module(label, 0, depends=tuple(lowers)) for label, lowers in depends.items()]
    places = {place: label for label in sorted(depends, reverse=True) if (place := _place(label))}
    return modules, Claims(below=places)


def _labels(where: str, node: str | None) -> list[str]:
    """Return the labels of a node."""
    if node is None:
        return []
    text = node[1:-1] if node.startswith('"') else node
    labels = [re.sub(r"\\(.)", r"\1", part) for part in text.split("\\n")]
    if cut := next(filter(_CUT.fullmatch, labels), None):
        raise InvalidArgument(f"a node of {where} is cut: {cut}", "give bazel --graph:node_limit=-1")
    return [label for label in labels if label]


def _place(label: str) -> bytes:
    """Return the path of a label's output; empty for a label that would lead outside."""
    repository, _, rest = label.rpartition("//")
    package, colon, name = rest.partition(":")
    if repository.strip("@"):
        package = f"external/{repository.strip('@')}/{package}"
    parts = [part for part in f"{package}/{name if colon else package.rpartition('/')[2]}".split("/") if part]
    return b"" if ".." in parts or "\0" in label else os.fsencode("/".join(parts))
