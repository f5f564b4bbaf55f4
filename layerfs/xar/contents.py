"""What goes into a package: entries of one directory or of several files, and the target among them."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.pysquashfs import Entry, entries_of

LINKS: Final = 40  # symlinks on the way to a target, as the kernel's MAXSYMLINKS


def gather(inputs: Sequence[bytes], *, keep_owners: bool = False) -> list[Entry]:
    """Return the entries of a package, its root first."""
    if len(inputs) == 1 and os.path.isdir(inputs[0]):
        root, *entries = entries_of(inputs[0])
        return [root if keep_owners else replace(root, mode=stat.S_IFDIR | 0o755), *entries]
    named: dict[bytes, bytes] = {}
    for path in inputs:
        name = os.path.basename(os.path.abspath(path))
        if name in named:
            said = f"{os.fsdecode(named[name])} and {os.fsdecode(path)} are both called {os.fsdecode(name)}"
            raise InvalidArgument(said, "rename one, or put both into one directory")
        named[name] = path
    entries = [entry for name in sorted(named) for entry in _input(named[name], name)]
    newest = max((entry.mtime for entry in entries), default=0)
    return [Entry(b"", stat.S_IFDIR | 0o755, mtime=newest), *entries]


def _input(path: bytes, name: bytes) -> list[Entry]:
    """Return the entries of one of several inputs, below its name."""
    st = os.lstat(path)
    if stat.S_ISDIR(st.st_mode):
        return [_below(name, entry) for entry in entries_of(path)]
    xattrs = {}
    for key in os.listxattr(path, follow_symlinks=False):
        xattrs[os.fsencode(key)] = os.getxattr(path, key, follow_symlinks=False)
    entry = Entry(name, st.st_mode, uid=st.st_uid, gid=st.st_gid, mtime=int(st.st_mtime), xattrs=xattrs)
    if stat.S_ISREG(st.st_mode):
        return [replace(entry, source=path)]
    if stat.S_ISLNK(st.st_mode):
        return [replace(entry, target=os.readlink(path))]
    return [replace(entry, rdev=st.st_rdev)]


def _below(name: bytes, entry: Entry) -> Entry:
    link = None if entry.link is None else b"%s/%s" % (name, entry.link)
    return replace(entry, path=b"%s/%s" % (name, entry.path) if entry.path else name, link=link)


def is_closed(entry: Entry) -> bool:
    """Tell whether only its owner or group may use an entry; in the package that is nobody."""
    if stat.S_ISDIR(entry.mode):
        return entry.mode & 0o005 != 0o005
    return stat.S_ISREG(entry.mode) and not entry.mode & stat.S_IROTH


def target_in(entries: Mapping[bytes, Entry], target: str) -> str:
    """Return a target as the header holds it; InvalidArgument unless it is an executable file in the tree."""
    if target.startswith("/"):
        raise InvalidArgument(f"the target {target} is absolute", "name it as seen from the root of the package")
    entry = _resolve(target, entries)
    if not stat.S_ISREG(entry.mode):
        raise InvalidArgument(f"the target {target} is not a file")
    if not entry.mode & 0o111:
        raise InvalidArgument(f"the target {target} is not executable", f"chmod +x it: {os.fsdecode(entry.path)}")
    return "/".join(part for part in target.split("/") if part not in ("", "."))


def _resolve(target: str, entries: Mapping[bytes, Entry]) -> Entry:
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
        to = entry.target or b""
        if to.startswith(b"/") or links > LINKS:
            what = "goes round in circles" if links > LINKS else f"leads out of the package, to {os.fsdecode(to)}"
            raise InvalidArgument(f"the target {target} {what}")
        ahead += to.split(b"/")[::-1]
    return entries[b"/".join(here)]


def _hint(target: bytes, entries: Mapping[bytes, Entry]) -> str:
    """Return where a file of this name is, if there is one."""
    name = os.path.basename(target)
    there = (path for path in entries if os.path.basename(path) == name)
    return next((f"there is {os.fsdecode(path)}" for path in there), "name it as seen from the root of the package")
