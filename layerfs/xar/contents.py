"""What goes into a package: entries of one directory or of several files, and the target among them."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.pysquashfs import FileSpec, entries_of
from layerfs.pysquashfs.filespec import entry_at

LINKS: Final = 40  # symlinks on the way to a target, as the kernel's MAXSYMLINKS


@dataclass(slots=True)
class PackageContents:
    """The entries of a package, its root first, the xattrs that squashfs cannot hold, and what changed meanwhile."""

    entries: list[FileSpec] = field(default_factory=list)
    dropped: list[tuple[bytes, bytes]] = field(default_factory=list)
    changed: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(entry.seen.st_size for entry in self.entries if entry.seen)

    @property
    def newest(self) -> int:
        """The newest mtime [s], 0 if there is none after 1970."""
        return max([0, *(entry.mtime for entry in self.entries)])


def gather(inputs: Sequence[bytes], *, keep_root: bool = False) -> PackageContents:
    """Return the entries of one directory, or of several inputs under their names.

    The root directory is open to everybody (0755) unless `keep_root` says that it stays as the one input is.
    """
    contents = PackageContents()
    if len(inputs) == 1 and os.path.isdir(inputs[0]):
        contents.entries += entries_of(
            inputs[0],
            on_dropped=lambda *what: contents.dropped.append(what),
            on_changed=lambda *what: contents.changed.append(what),
        )
        if not keep_root:
            contents.entries[0].mode = stat.S_IFDIR | 0o755
        return contents
    named: dict[bytes, bytes] = {}
    for path in inputs:
        name = os.path.basename(os.path.abspath(path))
        if name in named:
            said = f"{os.fsdecode(named[name])} and {os.fsdecode(path)} are both called {os.fsdecode(name)}"
            raise InvalidArgument(said, "rename one, or put both into one directory")
        named[name] = path
    for name in sorted(named):
        _add(contents, named[name], name)
    contents.entries.insert(0, FileSpec(b"", stat.S_IFDIR | 0o755, mtime=contents.newest))
    return contents


def _add(contents: PackageContents, path: bytes, name: bytes) -> None:
    """Add one of several inputs, and what is below it, under its name."""
    st = os.lstat(path)
    if stat.S_ISDIR(st.st_mode):

        def below(inner: bytes) -> bytes:
            return b"%s/%s" % (name, inner) if inner else name

        found = entries_of(
            path,
            follow=False,
            on_dropped=lambda inner, key: contents.dropped.append((below(inner), key)),
            on_changed=lambda inner, what: contents.changed.append((below(inner), what)),
        )
        for entry in found:
            entry.path = below(entry.path)
            entry.link = None if entry.link is None else below(entry.link)
            contents.entries.append(entry)
        return
    contents.entries.append(entry_at(path, st, on_dropped=lambda *what: contents.dropped.append(what)))


def is_closed(entry: FileSpec) -> bool:
    """Tell whether only its owner or group may use an entry; in the package that is nobody."""
    if stat.S_ISDIR(entry.mode):
        return entry.mode & 0o005 != 0o005
    return stat.S_ISREG(entry.mode) and not entry.mode & stat.S_IROTH


def target_in(contents: PackageContents, target: str) -> str:
    """Return a target as the header holds it; InvalidArgument unless it is an executable file in the tree."""
    entries = {entry.path: entry for entry in contents.entries}
    entries |= {entry.path: entries[entry.link] for entry in contents.entries if entry.link is not None}
    if target.startswith("/"):
        raise InvalidArgument(f"the target {target} is absolute", "name it as seen from the root of the package")
    entry = _resolve(target, entries)
    if not stat.S_ISREG(entry.mode):
        raise InvalidArgument(f"the target {target} is not a file")
    if not entry.mode & 0o111:
        raise InvalidArgument(f"the target {target} is not executable", f"chmod +x it: {os.fsdecode(entry.path)}")
    return "/".join(part for part in target.split("/") if part not in ("", "."))


def _resolve(target: str, entries: Mapping[bytes, FileSpec]) -> FileSpec:
    """Return the entry that a path leads to, along the symlinks in the tree."""
    here: list[bytes] = []
    ahead = os.fsencode(target).split(b"/")[::-1]
    links = 0
    while ahead:
        part = ahead.pop()
        if part == b".." and not here:
            raise InvalidArgument(f"the target {target} leads out of the package")
        if part == b"..":
            here.pop()
        if part in (b"", b".", b".."):
            continue
        entry = entries.get(b"/".join([*here, part]))
        if entry is None:
            raise InvalidArgument(f"the target {target} is not in the package", _hint(os.fsencode(target), entries))
        if not stat.S_ISLNK(entry.mode):
            here.append(part)
            continue
        links += 1
        to = entry.target
        if to.startswith(b"/") or links > LINKS:
            what = "goes round in circles" if links > LINKS else f"leads out of the package, to {os.fsdecode(to)}"
            raise InvalidArgument(f"the target {target} {what}")
        ahead += to.split(b"/")[::-1]
    return entries[b"/".join(here)]


def _hint(target: bytes, entries: Mapping[bytes, FileSpec]) -> str:
    """Return where a file of this name is, if there is one."""
    name = os.path.basename(target)
    there = (path for path in entries if os.path.basename(path) == name)
    return next((f"there is {os.fsdecode(path)}" for path in there), "name it as seen from the root of the package")
