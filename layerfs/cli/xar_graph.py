"""`layerfs xar graph`: what layers depend on, how all of it is stacked, and which files hide others."""

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from layerfs.errors import LayerfsError, Unsupported
from layerfs.lowers.kinds import look
from layerfs.spec.options import absolute
from layerfs.store.cache import Cache
from layerfs.sys.terminal import json_text, one_line
from layerfs.xar.conflicts import ASKED, Conflict, find_conflicts
from layerfs.xar.graph import GraphMember, Resolution, resolve
from layerfs.xar.search import Search

DESCRIPTION: Final = """\
Print the dependency graph of FILEs, which are stacked as `layerfs mount FILE... MOUNTPOINT` would: every package above
what it depends on. Files that several packages provide are conflicts; the one of the upper package is seen. What a
package depends on is looked for beside it, in LAYERFS_XAR_PATH (colon separated) and in the cache (layerfs cache).

JSON: an object with the keys
  packages   a list, top first: name, path, version, uuid (null for what is no XAR), digest (SHA-256 of the file; null
             for a directory), size [bytes], depends (names, as in DEPENDENCIES), given (whether it is a FILE)
  order      the paths, top first, as for `layerfs mount`
  conflicts  a list: file, packages (their paths; the first is seen), equal (whether mode and content are the same);
             null with --no-conflicts
DOT is for Graphviz, whose program `dot` makes the SVG."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb to those of `layerfs xar`."""
    parser = subparsers.add_parser(
        "graph",
        help="show what XARs depend on",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="FILE", help="XARs, images, directories; top first")
    parser.add_argument("--format", choices=list(FORMATS), default="text", help="default: text")
    for form in ("json", "dot", "svg"):
        parser.add_argument(f"--{form}", action="store_const", const=form, dest="format", help=f"--format {form}")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this file")
    parser.add_argument(
        "--conflicts", action=argparse.BooleanOptionalAction, default=True, help="look for files that hide others"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the graph."""
    cwd = os.getcwdb()
    paths = [absolute(os.fsencode(path), cwd) for path in arguments.paths]
    for path in filter(os.path.exists, paths):
        look(path)  # refuses what is no layer
    resolution = resolve(paths, Search.from_environment(Cache.all))
    found = None
    if arguments.conflicts:
        images = [member.path for member in resolution.members if not member.directory]
        search = find_conflicts(images, ASKED)
        found = [_Named(conflict, images) for conflict in search.found]
        if search.ended:
            print(f"layerfs: warning: looking for conflicts ended {search.ended}: there may be more", file=sys.stderr)
    shown = FORMATS[arguments.format](resolution, found)
    if arguments.output is None:
        sys.stdout.write(shown)
    else:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(shown)
    return 0


class _Named:
    """A conflict with the paths of the packages it is between, the seen one first."""

    def __init__(self, conflict: Conflict, paths: Sequence[bytes]) -> None:
        self.file = "/" + os.fsdecode(conflict.path)
        self.paths = [paths[index] for index in conflict.providers]
        self.equal = conflict.equal

    def line(self) -> str:
        seen, *hidden = (os.fsdecode(os.path.basename(path)) for path in self.paths)
        words = "equal in" if self.equal else "of"
        return one_line(f"{self.file} {words} {seen} hides that of {', '.join(hidden)}")

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "packages": list(map(os.fsdecode, self.paths)), "equal": self.equal}


_DASHED: Final = "style=dashed, color=red, fontcolor=red, constraint=false"
_Conflicts = list[_Named] | None


def _text(resolution: Resolution, conflicts: _Conflicts) -> str:
    """Return the tree from each FILE that nothing else depends on, the order and the conflicts."""
    lines = [one_line(line) for line in _tree(resolution)]
    lines += ["", "stack, top first:", *(f"  {one_line(os.fsdecode(path))}" for path in resolution.lowers)]
    if conflicts:
        lines += ["", "files that several packages provide:", *(f"  {conflict.line()}" for conflict in conflicts)]
    elif conflicts is not None:
        lines += ["", "no file is in two packages"]
    return "\n".join(lines) + "\n"


def _tree(resolution: Resolution) -> Iterator[str]:
    """Yield a tree's lines; what a package depends on is shown where the package comes first."""
    inner = {index for depends in resolution.depends for index in depends.values()}
    roots = [index for index in range(len(resolution.members)) if index not in inner]
    stack = [(index, "", "", "") for index in reversed(roots)]
    seen = set()
    while stack:
        index, before, branch, name = stack.pop()
        member, depends = resolution.members[index], resolution.depends[index]
        again = " (see above)" if index in seen and depends else ""
        yield f"{before}{branch}{_label(member, name)}{again}"
        if index not in seen:
            seen.add(index)
            deeper = before + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
            below = list(depends.items())
            for number, (called, lower) in enumerate(reversed(below)):
                stack.append((lower, deeper, "├─ " if number else "└─ ", os.fsdecode(called)))


def _label(member: GraphMember, called: str = "") -> str:
    """Return a package's name and version, and by which name it is meant if that is another one."""
    name = os.fsdecode(member.name)
    version = f" {member.header.version}" if member.header and member.header.version else ""
    return f"{called} = {name}{version}" if called and called != name else f"{name}{version}"


def _json(resolution: Resolution, conflicts: _Conflicts) -> str:
    shown = {
        "packages": [_package(*pair) for pair in zip(resolution.members, resolution.depends, strict=True)],
        "order": list(map(os.fsdecode, resolution.lowers)),
        "conflicts": None if conflicts is None else [conflict.as_json() for conflict in conflicts],
    }
    return json_text(shown) + "\n"


def _package(member: GraphMember, depends: Mapping[bytes, int]) -> dict[str, Any]:
    from layerfs.xar.digest import trusted

    digest = None
    if not member.directory:
        with open(member.path, "rb") as file:
            digest = trusted(file.fileno())
    return {
        "name": os.fsdecode(member.name),
        "path": os.fsdecode(member.path),
        "version": member.header.version if member.header else None,
        "uuid": member.header.uuid if member.header else None,
        "digest": digest,
        "size": None if member.directory else member.size,
        "depends": list(map(os.fsdecode, depends)),
        "given": member.given,
    }


def _dot(resolution: Resolution, conflicts: _Conflicts) -> str:
    """Return the graph for Graphviz: packages that were given have a bold frame, conflicts are dashed lines."""
    lines = ["digraph packages {", "  node [shape=box, fontname=sans]", "  edge [fontname=sans, fontsize=10]"]
    for index, member in enumerate(resolution.members):
        lines.append(f"  n{index} [label={_quoted(_label(member))}{', style=bold' if member.given else ''}]")
    for index, depends in enumerate(resolution.depends):
        lines += [f"  n{index} -> n{lower}" for lower in depends.values()]
    number = {path: index for index, path in enumerate(resolution.lowers)}
    real = [conflict.paths for conflict in conflicts or () if not conflict.equal]
    pairs = Counter((number[seen], number[lower]) for seen, *hidden in real for lower in hidden)
    for (upper, lower), count in pairs.items():
        label = _quoted(f"hides {count} file{'s' if count > 1 else ''}")
        lines.append(f"  n{upper} -> n{lower} [{_DASHED}, label={label}]")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """Return a DOT string; a backslash would be an escape in a label."""
    return '"' + one_line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _svg(resolution: Resolution, conflicts: _Conflicts) -> str:
    command = ["dot", "-Tsvg"]
    try:
        done = subprocess.run(command, input=_dot(resolution, conflicts), capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        raise Unsupported(
            "drawing takes Graphviz, whose program dot is not on PATH", "install graphviz, or take --format=dot"
        ) from None
    if done.returncode != 0:
        raise LayerfsError(f"dot failed: {done.stderr.strip() or done.returncode}", "see what --format=dot prints")
    return done.stdout


FORMATS: Final = {"text": _text, "json": _json, "dot": _dot, "svg": _svg}
