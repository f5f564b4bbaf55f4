"""`layerfs cache`: the packages that are kept for stacks to come, each content once."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from layerfs.cli.screen import bar, complain, size
from layerfs.errors import Corrupt, InvalidArgument, NotFound
from layerfs.mounts import registry
from layerfs.spec.options import absolute
from layerfs.store import eviction
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from layerfs.store.intake import Added
from layerfs.sys.terminal import json_text, one_line

DESCRIPTION: Final = """\
Keep packages (XARs, squashfs images), each content once, where `layerfs mount` and the others find what a XAR depends
on. A user's cache is ~/.cache/layerfs (XDG_CACHE_HOME), root's is /var/cache/layerfs, which all users read;
LAYERFS_CACHE=DIR takes another one. It holds at most LAYERFS_CACHE_SIZE (10G): what was not used for the longest time
leaves first, what is mounted never."""
_SHORT: Final = 12  # digits of a digest that are shown, and may be given instead of a version from 8 on
_LEAST: Final = 8

# (path, name if that is not the path's) -> what it means by the names it depends on; in the order in which to add them
_Wanted = dict[tuple[bytes, bytes | None], dict[bytes, bytes]]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this verb and its parts to the command line."""
    parser = subparsers.add_parser(
        "cache",
        help="keep packages that others depend on",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(prog="layerfs cache", metavar="VERB", required=True)
    for name, (about, do, add_arguments) in PARTS.items():
        part = parts.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_arguments(part)
        part.set_defaults(do=do)


def run(arguments: argparse.Namespace) -> int:
    """Do the part that was asked for."""
    do: Callable[[argparse.Namespace], int] = arguments.do
    return do(arguments)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="FILE")
    parser.add_argument(
        "--deps",
        action="store_true",
        help="also add what FILEs depend on, and note which contents these are: FILEs in the cache then mean them, "
        "whatever other versions it gets",
    )
    _add_json(parser, "an object: stored, reused, evicted (lists as of ls), stored_bytes, reused_bytes, size (of all)")


def _ls_arguments(parser: argparse.ArgumentParser) -> None:
    _add_json(parser, "a list of objects: name, version, uuid, size, sha256, xxh3, path, added, used, depends, cache")


def _gc_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-size", metavar="SIZE", help="evict until no more is left, such as 500M, 10G, 0")


def _path_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME[=VERSION]", help="VERSION may be 8 or more digits of the SHA-256")


def _add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def _add(arguments: argparse.Namespace) -> int:
    """Add files, then evict what is beyond the bound."""
    from layerfs.store.intake import add

    cache, limit, cwd = Cache.own(), eviction.bound(), os.getcwdb()
    files = [absolute(os.fsencode(file), cwd) for file in arguments.paths]
    wanted = _with_dependencies(files) if arguments.deps else {(file, None): {} for file in files}
    total = _total([file for file, _ in wanted], limit)
    digests: dict[bytes, str] = {}
    done: list[Added] = []
    try:
        with bar("adding") as tell:
            for (file, alias), needs in wanted.items():
                depends = {os.fsdecode(name): digests[path] for name, path in needs.items()}
                done.append(add(cache, file, depends if arguments.deps else None, alias))
                digests[file] = done[-1].entry.sha256
                tell(sum(one.entry.size for one in done), total)
        swept = eviction.sweep(cache, limit, mounted_files())
    finally:
        for added in done:
            os.close(added.held)
    _report_added(done, swept, arguments.json)
    if swept.size > limit:
        print(f"layerfs: warning: the cache holds {size(swept.size)}, all of it in use", file=sys.stderr)
    return 0


def _with_dependencies(files: Iterable[bytes]) -> "_Wanted":
    """Return packages, dependencies first, and which package each name in their DEPENDENCIES means.

    One content that is known by several names is there once for each.
    """
    from layerfs.xar.graph import resolve
    from layerfs.xar.search import Search

    found: _Wanted = {}
    for file in files:
        resolution = resolve([file], Search.from_environment(Cache.all))
        paths = resolution.lowers
        for index in reversed(range(len(paths))):
            needs = {name: paths[lower] for name, lower in resolution.depends[index].items()}
            for name, path in needs.items():
                if name != os.path.basename(path):
                    found.setdefault((path, name), found[path, None])
            found.setdefault((paths[index], None), needs)
    return found


def _total(files: Iterable[bytes], limit: int) -> int:
    """Return how large files are together [bytes]; refuse what the cache cannot hold at once."""
    total = sum(os.stat(file).st_size for file in files)
    if total > limit:
        raise InvalidArgument(
            f"these packages have {size(total)}, but the cache may hold {size(limit)}",
            f"set {eviction.VARIABLE} to more, such as {eviction.VARIABLE}=20G",
        )
    return total


def _report_added(added: list[Added], swept: eviction.Swept, as_json: bool) -> None:
    stored = [one.entry for one in added if one.stored]
    reused = [one.entry for one in added if not one.stored]
    sizes = [sum(entry.size for entry in entries) for entries in (stored, reused)]
    if as_json:
        lists = {"stored": stored, "reused": reused, "evicted": swept.evicted}
        shown: dict[str, Any] = {name: [_as_json(entry) for entry in entries] for name, entries in lists.items()}
        print(json_text(shown | {"stored_bytes": sizes[0], "reused_bytes": sizes[1], "size": swept.size}))
        return
    total = f"{len(added)} package{'s' if len(added) != 1 else ''}"
    text = f"stored {len(stored)} of {total}, {size(sizes[0])}"
    if reused:
        text += f"; {len(reused)} {'was' if len(reused) == 1 else 'were'} there, {size(sizes[1])} reused"
    print(text)
    _print_evicted(swept)


def _print_evicted(swept: eviction.Swept) -> None:
    for entry in swept.evicted:
        print(one_line(f"evicted {_title(entry)}, {size(entry.size)}"))


def _ls(arguments: argparse.Namespace) -> int:
    """List the entries of all caches that this user searches."""
    rows = [(cache, entry) for cache in Cache.all() for entry in _entries(cache)]
    if arguments.json:
        print(json_text([_as_json(entry) | {"cache": os.fsdecode(cache.root)} for cache, entry in rows]))
        return 0
    for cache, entry in rows:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        print(one_line(f"{_title(entry)}  {size(entry.size)}  used {used}  {os.fsdecode(cache.root)}"))
    print(f"{len(rows)} package{'s' * (len(rows) != 1)}, {size(sum(entry.size for _, entry in rows))}")
    return 0


def _entries(cache: Cache) -> list[CacheEntry]:
    """Return a cache's sound entries; print a warning for each corrupt one."""
    entries, corrupt = cache.entries()
    for error in corrupt:
        print(f"layerfs: warning: {one_line(str(error))}", file=sys.stderr)
    return entries


def _verify(_arguments: argparse.Namespace) -> int:
    """Read everything and compare it with its SHA-256."""
    bad: list[Corrupt] = []
    found: list[tuple[Cache, CacheEntry]] = []
    for cache in Cache.all():
        entries, corrupt = cache.entries()
        found += [(cache, entry) for entry in entries]
        bad += corrupt
    done, total, sound = 0, sum(entry.size for _, entry in found), 0
    with bar("reading") as tell:
        for cache, entry in found:
            try:
                cache.verify(entry)
                sound += 1
            except Corrupt as error:
                bad.append(error)
            except FileNotFoundError:  # evicted meanwhile
                continue
            done += entry.size
            tell(done, total)
    print(f"{sound} sound, {len(bad)} corrupt")
    complain([str(said) for said in bad])
    return 1 if bad else 0


def _gc(arguments: argparse.Namespace) -> int:
    """Evict beyond the bound, and remove what killed processes left."""
    limit = eviction.bound() if arguments.max_size is None else eviction.parse_size(arguments.max_size)
    swept = eviction.sweep(Cache.own(), limit, mounted_files())
    _print_evicted(swept)
    spared = f", {len(swept.spared)} in use spared" if swept.spared else ""
    print(f"evicted {len(swept.evicted)}, removed {swept.leftovers} leftovers{spared}; {size(swept.size)} left")
    return 0


def _path(arguments: argparse.Namespace) -> int:
    """Check a package and print its path."""
    name, version = arguments.name, ""
    found = _versions(name)
    if not found and "=" in name:
        name, _, version = name.rpartition("=")
        found = _versions(name)
    exact = {digest: pair for digest, pair in found.items() if version in ("", pair[1].version)}
    if not exact and len(version) >= _LEAST:
        exact = {digest: pair for digest, pair in found.items() if digest.startswith(version.lower())}
    if not exact:
        there = ", ".join(sorted(_title(entry) for _, entry in found.values()))
        raise NotFound(f"the cache has no {arguments.name}", f"it has {there}" if there else "layerfs cache add FILE")
    if len(exact) > 1:
        there = ", ".join(sorted(_title(entry) for _, entry in exact.values()))
        raise InvalidArgument(f"{arguments.name} is ambiguous: {there}", f"layerfs cache path {name}=VERSION")
    cache, entry = next(iter(exact.values()))
    print(os.fsdecode(cache.checked(entry)))
    return 0


def _versions(name: str) -> dict[str, tuple[Cache, CacheEntry]]:
    """Return all entries of a name by their digests, the user's own before the node's."""
    return {e.sha256: (cache, e) for cache in reversed(Cache.all()) for e in cache.versions(os.fsencode(name))}


def mounted_files() -> set[bytes]:
    """Return the layers of this user's mounts on record."""
    registry.prune()
    return {lower for record in registry.records() for lower in record.stack.lowers}


def _title(entry: CacheEntry) -> str:
    """Return an entry's name, version and digest, as they are printed."""
    return f"{os.fsdecode(entry.name)} {entry.version or '-'} ({entry.sha256[:_SHORT]})"


def _as_json(entry: CacheEntry) -> dict[str, Any]:
    return {
        "name": os.fsdecode(entry.name),
        "version": entry.version or None,
        "uuid": entry.uuid or None,
        "size": entry.size,
        "sha256": entry.sha256,
        "xxh3": entry.xxh3,
        "path": os.fsdecode(entry.path),
        "added": entry.added,
        "used": entry.used,
        "depends": dict(entry.depends),
    }


_Part = tuple[str, Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None]]
PARTS: Final[dict[str, _Part]] = {
    "add": ("store packages, those that are there already once", _add, _add_arguments),
    "ls": ("list what is there", _ls, _ls_arguments),
    "verify": ("read all packages, and set aside what is corrupt (exit status 1)", _verify, lambda _: None),
    "gc": ("evict packages beyond the bound, least recently used first, and clear leftovers", _gc, _gc_arguments),
    "path": ("print the path of a package", _path, _path_arguments),
}
