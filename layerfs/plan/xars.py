"""The graph of XARs: what `layerfs mount FILE...` would stack, each package a module."""

import os
from collections.abc import Sequence

from layerfs.errors import InvalidArgument
from layerfs.plan.graph import Graph, Module, make_graph
from layerfs.xar.graph import resolve
from layerfs.xar.search import Search


def read_xars(paths: Sequence[bytes], search: Search) -> Graph:
    """Return the graph of XARs [absolute paths] and of all that they depend on; their size is that of the file.

    A XAR is not rebuilt because another one changed: DEPENDENCIES names files, not versions.
    """
    found = resolve(paths, search)
    names = [os.fsdecode(member.name) for member in found.members]
    modules = []
    for name, member, depends in zip(names, found.members, found.depends, strict=True):
        if member.directory:
            raise InvalidArgument(f"{os.fsdecode(member.path)} is a directory, no XAR", "build one: layerfs xar build")
        version = member.header.version if member.header else ""
        lowers = tuple(names[lower] for lower in depends.values())
        modules.append(Module(name, member.size, str(version or ""), 1, lowers, rebuilds=False))
    return make_graph("xar", modules)
