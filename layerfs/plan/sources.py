"""Sources of graphs: how they are named, read, and found again when a plan is packed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from layerfs.errors import InvalidArgument, WrongUsage
from layerfs.lowers.kinds import open_tree
from layerfs.oci.below import UnionBelow
from layerfs.oci.view import RawView, View
from layerfs.plan.dotfile import read_dot
from layerfs.plan.dpkg import read_dpkg
from layerfs.plan.graph import Graph, Module, make_graph
from layerfs.plan.jsonfile import read_graph
from layerfs.plan.python import read_python
from layerfs.plan.tree import ALWAYS, UNOWNED, ModuleTree, make_tree
from layerfs.spec.options import absolute
from layerfs.xar.search import Search

KINDS: Final = ("dot", "dpkg", "oci", "python", "xar")

Layers = Callable[[str], Sequence[bytes]]  # of an image: paths, top first


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source of a graph as it is named: `KIND:WHAT`, or the path of a JSON file; paths are absolute.

    `more` are further XARs; `sizes` is where the outputs of a DOT file lie.
    """

    kind: str
    what: str
    more: tuple[str, ...] = ()
    sizes: str | None = None

    @property
    def shown(self) -> str:
        """The source in one word."""
        return self.what if self.kind == "json" else f"{self.kind}:{self.what}"


@dataclass(frozen=True, slots=True)
class GraphSource:
    """A graph and its files; the tree is None where nobody said where the files are."""

    words: SourceSpec
    graph: Graph
    tree: ModuleTree | None


def parse_words(words: Sequence[str], sizes: str | None, cwd: bytes) -> SourceSpec:
    """Parse the arguments that name a source. Raises WrongUsage."""
    kind, colon, what = words[0].partition(":")
    if kind not in KINDS or not colon:
        kind, what = "json", words[0]
    more = [word.removeprefix("xar:") for word in words[1:]]
    if more and kind != "xar":
        raise WrongUsage(f"{words[1]} is a source too many", "only xar: takes several files")
    if not what:
        raise WrongUsage(f"{kind}: names nothing", f"such as {kind}:WHAT; layerfs plan --help has them all")
    if (sizes is None) == (kind == "dot"):
        raise WrongUsage("--sizes belongs to dot:FILE, which needs it", "say where the outputs of the graph lie")

    def full(path: str) -> str:
        return os.fsdecode(absolute(os.fsencode(path), cwd))

    return SourceSpec(
        kind,
        what if kind == "oci" else full(what),
        tuple(map(full, more)),
        None if sizes is None else full(sizes),
    )


@contextmanager
def opened(words: SourceSpec, layers_of: Layers, search: Callable[[], Search]) -> Iterator[GraphSource]:
    """Read a source; its tree can be read while the context lasts. Raises InvalidArgument, NotFound, OSError."""
    path = os.fsencode(words.what)
    if words.kind == "json":
        written = read_graph(path)
        if written.root is None:
            yield GraphSource(words, make_graph(written.name, written.modules), None)
            return
        with RawView(open_tree(_directory(written.root), 0)) as view:
            yield _sized(words, written.name, written.modules, make_tree(view, written.claims))
    elif words.kind == "dot":
        modules, claims = read_dot(path)
        with RawView(open_tree(_directory(os.fsencode(words.sizes or "")), 0)) as view:
            yield _sized(words, words.what, modules, make_tree(view, claims, collect=False))
    elif words.kind == "xar":
        yield from _xars(words, search())
    else:
        with _view(words, layers_of) as view:
            read = read_python if words.kind == "python" else read_dpkg
            modules, claims = read(view, words.shown)
            yield _sized(words, words.shown, modules, make_tree(view, claims))


def _xars(words: SourceSpec, search: Search) -> Iterator[GraphSource]:
    from layerfs.plan.xars import claims_of, read_xars

    modules, lowers = read_xars([os.fsencode(path) for path in (words.what, *words.more)], search)
    with UnionBelow(lowers) as view:
        tree = make_tree(view, claims_of(lowers))
        yield GraphSource(words, make_graph("xar", [*modules, _unowned(tree)]), tree)


@contextmanager
def _view(words: SourceSpec, layers_of: Layers) -> Iterator[View]:
    if words.kind == "oci":
        layers = layers_of(words.what)
        if not layers:
            raise InvalidArgument(f"{words.shown} has no layers", "name an image with packages in it")
        with UnionBelow(layers) as view:
            yield view
        return
    with RawView(open_tree(_directory(os.fsencode(words.what)), 0)) as view:
        yield view


def _directory(path: bytes) -> bytes:
    os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))  # says what is wrong with it
    return path


def _sized(words: SourceSpec, name: str, modules: Sequence[Module], tree: ModuleTree) -> GraphSource:
    """Return a source with the sizes of the files in its tree; files that no module owns become a module of their own.

    A module without a file keeps the size that was said of it.
    """
    sizes: dict[str, tuple[int, int]] = dict(tree.sizes)
    found = [
        replace(module, size=sizes[module.name][0], files=sizes[module.name][1]) if module.name in sizes else module
        for module in modules
    ]
    return GraphSource(words, make_graph(name, [*found, _unowned(tree)]), tree)


def _unowned(tree: ModuleTree) -> Module:
    size, files = tree.sizes[UNOWNED]
    return Module(UNOWNED, size, files=files, chance=ALWAYS, rebuilds=False)
