"""A build graph as `bazel query --output=graph` prints it, and the sizes of what was built.

Read are lines of the forms `"A"`, `"A" -> "B"` and what stands around them in a digraph; attributes are passed over.
Bazel puts labels with the same neighbours into one node, divided by `\\n`; each of them becomes a module.
"""

import errno
import os
import re
import stat
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import Graph, Module, make_graph
from layerfs.plan.jsonfile import read_text
from layerfs.sys.dirs import open_beneath

_NODE: Final = r'("(?:[^"\\]|\\.)*"|[\w.]+)'
_EDGE: Final = re.compile(rf"{_NODE}(?:\s*->\s*{_NODE})?\s*(?:\[.*\])?\s*;?")
_AROUND: Final = re.compile(
    r"(?:strict\s+)?digraph\b.*\{|\}|(?:node|edge|graph)\s*\[.*\]\s*;?|\w+\s*=\s*[^;]*;?|//.*|#.*|"
)
_CUT: Final = re.compile(r"\.\.\.and \d+ more items")
_ENTRIES: Final = 1_000_000  # files and directories of an output that is a tree


def read_dot(path: bytes, sizes: bytes) -> Graph:
    """Return the graph in a DOT file, with the sizes [bytes] of the outputs that lie in a directory.

    The output of `//package:name` is `package/name` in it, that of `@repository//package:name` is
    `external/repository/package/name`; a module whose output is not there has no bytes.
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
    base = os.open(sizes, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        measured = {label: _measure(base, label) for label in depends}
    finally:
        os.close(base)
    return make_graph(
        shown,
        (
            Module(label, measured[label][0], files=measured[label][1], depends=tuple(lowers))
            for label, lowers in depends.items()
        ),
    )


def _labels(where: str, node: str | None) -> list[str]:
    """Return the labels of a node."""
    if node is None:
        return []
    text = node[1:-1] if node.startswith('"') else node
    labels = [re.sub(r"\\(.)", r"\1", part) for part in text.split("\\n")]
    if cut := next(filter(_CUT.fullmatch, labels), None):
        raise InvalidArgument(f"a node of {where} is cut: {cut}", "give bazel --graph:node_limit=-1")
    return [label for label in labels if label]


def _place(label: str) -> list[str]:
    """Return the parts of the path where a label's output lies; none for a label that would lead elsewhere."""
    repository, _, rest = label.rpartition("//")
    package, colon, name = rest.partition(":")
    if repository.strip("@"):
        package = f"external/{repository.strip('@')}/{package}"
    parts = [part for part in f"{package}/{name if colon else package.rpartition('/')[2]}".split("/") if part]
    return [] if ".." in parts or "\0" in label else parts


def _measure(base: int, label: str) -> tuple[int, int]:
    """Return the bytes and files of a label's output; symlinks are followed nowhere, and count nothing."""
    parts = _place(label)
    if not parts:
        return 0, 0
    size = files = 0
    paths = ["/".join(parts)]
    while paths:
        path = paths.pop()
        try:
            fd = open_beneath(base, os.fsencode(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue
            raise
        try:
            st = os.fstat(fd)
        finally:
            os.close(fd)
        if stat.S_ISREG(st.st_mode):
            size, files = size + st.st_size, files + 1
        elif stat.S_ISDIR(st.st_mode):
            paths += [f"{path}/{name}" for name in _listed(base, path)]
        if files + len(paths) > _ENTRIES:
            raise InvalidArgument(f"the output of {label} has more than {_ENTRIES} files", "name the outputs alone")
    return size, files


def _listed(base: int, path: str) -> list[str]:
    """Return the names in a directory, sorted."""
    fd = open_beneath(base, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)
