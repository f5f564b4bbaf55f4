"""The graph of XARs: what `layerfs mount FILE...` would stack, each package a module."""

import os
from collections.abc import Sequence

from layerfs.errors import InvalidArgument
from layerfs.lowers.kinds import open_tree
from layerfs.oci.view import RawView
from layerfs.plan.graph import Module
from layerfs.plan.tree import Claims, walk
from layerfs.xar.graph import resolve
from layerfs.xar.search import Search


def read_xars(paths: Sequence[bytes], search: Search) -> tuple[list[Module], tuple[bytes, ...]]:
    """Return XARs [absolute paths] and all that they depend on as modules, and their files, top first.

    The size of a module is that of the file. A XAR is not rebuilt because another one changed: DEPENDENCIES names
    files, not versions.
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
    return modules, found.lowers


def claims_of(lowers: Sequence[bytes]) -> Claims:
    """Return which XAR owns each file: the topmost one that has it. Reads all directories."""
    files: dict[bytes, str] = {}
    for path in lowers:
        with RawView(open_tree(path, 0)) as view:
            for seen in walk(view):
                files.setdefault(seen.member.path, os.fsdecode(os.path.basename(path)))
    return Claims(files)
