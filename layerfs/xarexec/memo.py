"""Memos of what a XAR depends on: resolving it again at each start of a program would cost more than all else.

A memo beside the shared mounts holds what was found, and the stamp of everything that could change the answer: the
files, every directory in which one of them was found or might be (a new file there may be a better answer, or make a
name ambiguous), and what the environment says of places to search. If one differs all is resolved again, as it is
whenever the mount has to be made.
"""

import os

from layerfs.xarexec.home import find_home

MEMO = b".graph"
MEMOS = 256  # at most; about a kilobyte each
Stamp = tuple[int, ...]


class Members:
    """The files of a XAR and of its dependencies [absolute, top first], their stamps, and a digest of these."""

    __slots__ = ("digest", "lowers", "stamps")

    def __init__(self, lowers: tuple[bytes, ...], stamps: tuple[Stamp, ...], digest: bytes) -> None:
        self.lowers = lowers
        self.stamps = stamps
        self.digest = digest


def stamp_of(st: os.stat_result) -> Stamp:
    """Return a stamp that differs after any change to a file or directory."""
    return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def spell(*stamps: Stamp) -> bytes:
    """Return stamps as one word of text."""
    return b"-".join(b"%x" % number for stamp in stamps for number in stamp)


def members_of(path: bytes, stamp: Stamp, mount_root: bytes | None, *, anew: bool) -> Members:
    """Return the members of a XAR [absolute path], from its memo unless it is asked for `anew`; raises as `resolve`."""
    memo = os.path.join(find_home(mount_root), spell(stamp) + MEMO)
    found = None if anew else _recall(memo, path)
    return found or _find(memo, path)


def _recall(memo: bytes, path: bytes) -> Members | None:
    """Return what a memo says, if it was made for this very path and everything is as it was."""
    try:
        with open(memo, "rb") as file:
            digest, around, *rows = [line.split(b" ") for line in file.read().split(b"\n")]
        table = [(bytes.fromhex(row[0].decode()), tuple(map(int, row[1:]))) for row in rows]
    except (FileNotFoundError, ValueError):  # none, or one that was cut short
        return None
    count = int(digest[1])
    if around[0] != _around() or table[0][0] != path or any(_look(place) != stamp for place, stamp in table):
        return None
    return Members(tuple(place for place, _ in table[:count]), tuple(stamp for _, stamp in table[:count]), digest[0])


def _find(memo: bytes, path: bytes) -> Members:
    """Resolve what a XAR depends on and write its memo.

    What changes while we look must not go unnoticed: stamps are taken first.
    """
    from contextlib import suppress
    from hashlib import blake2b

    from layerfs.model import Stack
    from layerfs.mounts.packages import complete
    from layerfs.sys.files import write_whole

    around = _around()
    lowers: tuple[bytes, ...] = ()
    while True:
        places = _places(lowers)
        before = {place: _look(place) for place in (*lowers, *places)}
        found = complete(Stack((path,))).stack.lowers
        if found == lowers:
            break
        lowers = found  # now it is known what to look at
    stamps = tuple(before[lower] for lower in lowers)
    digest = blake2b(spell(*stamps), digest_size=16).hexdigest().encode()
    rows = (b" ".join([place.hex().encode(), *(b"%d" % n for n in before[place])]) for place in (*lowers, *places))
    with suppress(OSError):  # where nothing can be written all is resolved again
        write_whole(memo, b"\n".join([b"%s %d" % (digest, len(lowers)), around, *rows]))
        _forget_old(os.path.dirname(memo))
    return Members(lowers, stamps, digest)


def _forget_old(home: bytes) -> None:
    """Keep the newest memos; a XAR that is built again and again leaves one each time."""
    with os.scandir(home) as entries:
        memos = [(entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries if _is_memo(entry)]
    for _, path in sorted(memos)[:-MEMOS]:
        os.unlink(path)


def _is_memo(entry: "os.DirEntry[bytes]") -> bool:
    return entry.name.endswith(MEMO)


def _places(lowers: tuple[bytes, ...]) -> list[bytes]:
    """Return the directories that a search looks into, whether they are there or not."""
    if not lowers:
        return []
    from layerfs.store.cache import PACKAGES, Cache

    beside = [os.path.dirname(lower) for lower in lowers] + [os.path.dirname(os.path.realpath(low)) for low in lowers]
    names = [os.path.basename(lower) for lower in lowers]
    cached = [os.path.join(cache.root, PACKAGES, name) for cache in Cache.all() for name in (b"", *names)]
    return list(dict.fromkeys([*beside, *_search_path(), *cached]))


def _search_path() -> list[bytes]:
    words = os.environb.get(b"LAYERFS_XAR_PATH", b"").split(b":")
    return [os.path.abspath(word) for word in words if word]


def _around() -> bytes:
    """Return the variables of the environment that the search depends on, as one word."""
    cache = os.environb.get(b"LAYERFS_CACHE", b"")
    homes = [os.environb.get(name, b"") for name in (b"XDG_CACHE_HOME", b"HOME")]
    return b"\0".join([*_search_path(), b"", cache and os.path.abspath(cache), *homes]).hex().encode()


def _look(path: bytes) -> Stamp:
    """Return the stamp of a path; that of nothing where there is nothing."""
    try:
        return stamp_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
