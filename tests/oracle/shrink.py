"""Make a failing example small, within a time limit: fewer operations, fewer layers and names, plainer names."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.oracle.operations import Operation
from tests.oracle.trees import OLD, Kind, Layer, Marks, Node
from tests.oracle.world import World

Example = tuple[World, tuple[Operation, ...]]


def shrink(example: Example, fails: Callable[[Example], bool], seconds: float) -> Example:
    """The smallest example found that still fails; tries no more after `seconds` [s]."""
    deadline = time.monotonic() + seconds
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(example):
            if time.monotonic() > deadline:
                return example
            if fails(smaller):
                example, progress = smaller, True
                break
    return example


def _smaller(example: Example) -> Iterator[Example]:
    world, operations = example
    size = len(operations)
    while size := size // 2 if size > 1 else 0:
        for start in range(len(operations) - size, -1, -size):
            yield world, operations[:start] + operations[start + size :]
    if len(operations) == 1:
        yield world, ()
    for lowers in _smaller_layers(world.lowers):
        yield World(lowers, world.marks), operations
    if world.marks is not Marks.KERNEL:
        yield World(world.lowers, Marks.KERNEL), operations
    for index, operation in enumerate(operations):
        if operation[0] == "as":
            yield world, (*operations[:index], operation[2], *operations[index + 1 :])


def _smaller_layers(lowers: Sequence[Layer]) -> Iterator[tuple[Layer, ...]]:
    for index, layer in enumerate(lowers):
        before, after = tuple(lowers[:index]), tuple(lowers[index + 1 :])
        if len(lowers) > 1:
            yield before + after
        for path in layer:
            yield (*before, {name: node for name, node in layer.items() if name != path}, *after)
        for path, node in layer.items():
            for plain in _plainer(node):
                yield (*before, {**layer, path: plain}, *after)


def _plainer(node: Node) -> Iterator[Node]:
    usual = 0o755 if node.kind is Kind.DIR else 0o777 if node.kind is Kind.SYMLINK else 0o644
    plain = [
        replace(node, xattrs=()),
        replace(node, opaque=False),
        replace(node, uid=0, gid=0),
        replace(node, mtime=OLD),
        replace(node, mode=usual),
        replace(node, data=b"") if node.kind is Kind.FILE else node,
    ]
    yield from (candidate for candidate in plain if candidate != node)
