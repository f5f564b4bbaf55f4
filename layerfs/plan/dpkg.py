"""The Debian packages of a root filesystem, which is a stranger's: nothing in it is run, and no symlink is followed.

Read are dpkg's status (names, versions, sizes, dependencies), its lists of files, and the changelogs in usr/share/doc.
Packages that are built from one source change together. A source's chance to change within a month is the share of
months that have an entry in its changelog, from the oldest that counts (`YEARS` before the newest of all) to the newest
of all. A binary package is not rebuilt because one that it depends on changed.
"""

import errno
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.plan.deb822 import months, paragraphs, relations
from layerfs.plan.graph import PROBABILITY, Graph, Module, make_graph
from layerfs.sys.dirs import open_beneath, open_regular

YEARS: Final = 5
_STATUS: Final = 256 << 20  # bytes
_LIST: Final = 64 << 20
_CHANGELOG: Final = 4 << 20  # of each changelog, which has the newest entries first
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)  # ESTALE: no regular file
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_SOURCE: Final = re.compile(r"\s*([^\s(]+)")

_Fields = Mapping[str, str]


def read_dpkg(root: bytes) -> Graph:
    """Return the graph of the installed packages; an architecture is added to a name that several have."""
    shown = os.fsdecode(root)
    with _opened(root) as fd:
        text = _content(fd, b"var/lib/dpkg/status", _STATUS)
        if text is None:
            raise NotFound(f"{shown} has no dpkg database", "name the root directory of a Debian system")
        packages = [found for found in paragraphs(text) if _installed(found)]
        names = _names(packages)
        providers = _providers(packages, names)
        seen: set[str] = set()
        modules = [_module(fd, found, name, providers, seen) for found, name in zip(packages, names, strict=True)]
        return make_graph(f"dpkg:{shown}", _with_chances(fd, packages, modules))


@contextmanager
def _opened(root: bytes) -> Iterator[int]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _content(root: int, path: bytes, most: int, *, packed: bool = False) -> str | None:
    """Return at most `most` bytes of a regular file, uncompressed if it is packed by gzip; None if there is none."""
    place, _, name = path.rpartition(b"/")
    try:
        directory = open_beneath(root, place, os.O_PATH | os.O_DIRECTORY)
        try:
            fd = open_regular(directory, name, os.O_RDONLY)
        finally:
            os.close(directory)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    with open(fd, "rb") as file:
        content = file.read(most + 1)
    if not packed and len(content) > most:
        raise InvalidArgument(f"{os.fsdecode(path)} has more than {most} bytes", "this is no sound root filesystem")
    if packed:
        try:
            content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, most)
        except zlib.error:
            return None  # no changelog that can be read: the chance is guessed
    return content.decode(errors="replace")


def _installed(fields: _Fields) -> bool:
    return fields.get("Status", "").endswith(" installed") and bool(_PACKAGE.fullmatch(fields.get("Package", "")))


def _names(packages: Sequence[_Fields]) -> list[str]:
    plain = [fields["Package"] for fields in packages]
    twice = {name for name, count in Counter(plain).items() if count > 1}
    return [
        f"{name}:{fields.get('Architecture', '')}" if name in twice else name
        for name, fields in zip(plain, packages, strict=True)
    ]


def _providers(packages: Sequence[_Fields], names: Iterable[str]) -> dict[str, str]:
    """Return which package answers each name: the one of the name, else the first that provides it."""
    found: dict[str, str] = {}
    pairs = list(zip(packages, names, strict=True))
    for fields, name in pairs:
        found.setdefault(fields["Package"], name)
    for fields, name in sorted(pairs, key=lambda pair: pair[1]):
        for provided in relations(fields.get("Provides", "")):
            found.setdefault(provided[0], name)
    return found


def _module(root: int, fields: _Fields, name: str, providers: Mapping[str, str], seen: set[str]) -> Module:
    size = fields.get("Installed-Size", "0")
    if not re.fullmatch(r"-?[0-9]{1,15}", size):
        raise InvalidArgument(f"package {name} has an Installed-Size that is no number", "see var/lib/dpkg/status")
    wanted = relations(fields.get("Pre-Depends", "")) + relations(fields.get("Depends", ""))
    answers = [next((providers[one] for one in names if one in providers), None) for names in wanted]
    source = _SOURCE.match(fields.get("Source", ""))
    return Module(
        name,
        int(size) * 1024,
        fields.get("Version", ""),
        _count_files(root, fields, seen),
        tuple(dict.fromkeys(answer for answer in answers if answer and answer != name)),
        source=source[1] if source else fields["Package"],
        rebuilds=False,
    )


def _count_files(root: int, fields: _Fields, seen: set[str]) -> int:
    """Count the files of a package; what was seen in the list of another package is that one's."""
    plain = fields["Package"]
    for name in (f"{plain}:{fields.get('Architecture', '')}", plain):
        if "/" in name or "\0" in name:
            continue
        text = _content(root, b"var/lib/dpkg/info/" + os.fsencode(name) + b".list", _LIST)
        if text is not None:
            paths = set(text.split("\n")) - {"", "/."}
            files = paths - {path.rpartition("/")[0] for path in paths} - seen
            seen |= files
            return len(files)
    return 0


def _with_chances(root: int, packages: Sequence[_Fields], modules: Iterable[Module]) -> Iterator[Module]:
    """Yield modules with the chances that the changelogs of their sources tell."""
    listed = list(modules)
    entries: dict[str, set[int]] = {}
    for fields, module in zip(packages, listed, strict=True):
        if module.source not in entries and (found := _entries(root, fields["Package"])):
            entries[module.source] = found
    newest = max(map(max, entries.values()), default=0)
    for module in listed:
        found = {month for month in entries.get(module.source, ()) if month > newest - 12 * YEARS}
        known = module.source in entries
        yield replace(module, chance=(len(found) + 0.5) / (12 * YEARS + 1) if known else PROBABILITY)


def _entries(root: int, package: str) -> set[int]:
    """Return the months in a package's changelog."""
    place = b"usr/share/doc/" + os.fsencode(package)
    for name in (b"changelog.Debian.gz", b"changelog.gz"):
        text = _content(root, place + b"/" + name, _CHANGELOG, packed=True)
        if text and (found := set(months(text))):
            return found
    return set()
