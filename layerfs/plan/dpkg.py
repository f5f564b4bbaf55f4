"""The Debian packages of a root filesystem, which is a stranger's: nothing of it is run, no symlink leads out of it.

Read are dpkg's status (names, versions, dependencies), its lists of files and diversions, and the changelogs in
usr/share/doc. Packages that are built from one source change together. A source's chance to change within a month is
estimated from the months that have an entry in its changelog (`rate`). A binary package is not rebuilt because one
that it depends on changed.
"""

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.oci.view import View
from layerfs.plan.deb822 import months, paragraphs, relations
from layerfs.plan.graph import PROBABILITY, Module
from layerfs.plan.tree import Claims, PathResolver, content

YEARS: Final = 5  # of history that count
HALF: Final = 6  # months
PRIOR: Final = 2  # months
USUAL: Final = 0.12  # share of months in which a source changes
_STATUS: Final = 256 << 20  # bytes
_LIST: Final = 64 << 20
_CHANGELOG: Final = 4 << 20  # of each changelog, which has the newest entries first
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_SOURCE: Final = re.compile(r"\s*([^\s(]+)")
_DATABASE: Final = b"var/lib/dpkg/"

_Fields = Mapping[str, str]


def read_dpkg(view: View, shown: str) -> tuple[list[Module], Claims]:
    """Return the installed packages, and their files; an architecture is added to a name that several have.

    Sizes are those that the status has. Raises NotFound for a tree without a dpkg database, InvalidArgument.
    """
    text = _content(view, _DATABASE + b"status", _STATUS)
    if text is None:
        raise NotFound(f"{shown} has no dpkg database", "name the root directory of a Debian system")
    packages = [found for found in paragraphs(text) if _installed(found)]
    names = _names(packages)
    providers = _providers(packages, names)
    modules = [_module(found, name, providers) for found, name in zip(packages, names, strict=True)]
    return list(_with_chances(view, packages, modules)), _claims(view, packages, names)


def _content(view: View, path: bytes, most: int, *, packed: bool = False) -> str | None:
    """Return at most `most` bytes of a regular file, uncompressed if it is packed by gzip; None if there is none."""
    data = content(view, path, most + 1)
    if data is None:
        return None
    if not packed and len(data) > most:
        raise InvalidArgument(f"{os.fsdecode(path)} has more than {most} bytes", "this is no sound root filesystem")
    if packed:
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, most)
        except zlib.error:
            return None  # no changelog that can be read: the chance is guessed
    return data.decode(errors="surrogateescape")


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


def _module(fields: _Fields, name: str, providers: Mapping[str, str]) -> Module:
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
        0,
        tuple(dict.fromkeys(answer for answer in answers if answer and answer != name)),
        source=source[1] if source else fields["Package"],
        rebuilds=False,
    )


def _claims(view: View, packages: Sequence[_Fields], names: Sequence[str]) -> Claims:
    """Return which package owns which file; what several packages list belongs to the first of them, by name.

    What installing made (dpkg's own files, what Python compiled) is nobody's: its times are others in each build.
    """
    paths, diverted = PathResolver(view), _diversions(view)
    lists = set(view.names(_DATABASE + b"info"))
    files: dict[bytes, str] = {}
    for fields, name in sorted(zip(packages, names, strict=True), key=lambda pair: pair[1]):
        plain = fields["Package"]
        labels = (os.fsencode(f"{plain}:{fields.get('Architecture', '')}.list"), os.fsencode(f"{plain}.list"))
        listed = next((label for label in labels if label in lists), None)
        text = _content(view, _DATABASE + b"info/" + listed, _LIST) if listed is not None else None
        for path in (text or "").split("\n"):
            away, by = diverted.get(path, ("", ""))
            raw = os.fsencode(away if away and by != plain else path)
            if raw.strip(b"/.") and b"\0" not in raw:
                files.setdefault(paths.real(raw), name)
    return Claims(files)


def _diversions(view: View) -> dict[str, tuple[str, str]]:
    """Return where paths were diverted to, and by which package: its own file keeps the path."""
    lines = (_content(view, _DATABASE + b"diversions", _LIST) or "").split("\n")
    return {path: (to, by) for path, to, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)}


def _with_chances(view: View, packages: Sequence[_Fields], modules: Iterable[Module]) -> Iterator[Module]:
    """Yield modules with the chances that the changelogs of their sources tell."""
    listed = list(modules)
    entries: dict[str, set[int]] = {}
    for fields, module in zip(packages, listed, strict=True):
        if module.source not in entries and (found := changelog_months(view, fields["Package"])):
            entries[module.source] = found
    newest = max(map(max, entries.values()), default=0)
    for module in listed:
        known = module.source in entries
        yield replace(module, chance=rate(entries[module.source], newest) if known else PROBABILITY)


def rate(changed: Iterable[int], newest: int) -> float:
    """Return the chance that a source changes in the month after the newest, from the months in which it did.

    A month counts half as much as one that is HALF months younger: what changed lately changes again soon. To that come
    PRIOR months with the usual share of changes. Both were fitted to the history that benchmarks/planning.py replays.
    """

    def weight(month: int) -> float:
        return float(0.5 ** ((newest - month) / HALF))

    months = range(newest - 12 * YEARS + 1, newest + 1)
    changes = sum(weight(month) for month in set(changed) if month in months)
    return (changes + PRIOR * USUAL) / (sum(map(weight, months)) + PRIOR)


def changelog_months(view: View, package: str) -> set[int]:
    """Return the months in a package's changelog, counted from the year 0; none if it has none that can be read."""
    place = b"usr/share/doc/" + os.fsencode(package)
    for name in (b"changelog.Debian.gz", b"changelog.gz"):
        text = _content(view, place + b"/" + name, _CHANGELOG, packed=True)
        if text and (found := set(months(text))):
            return found
    return set()
