"""What is asked of FUSE mounts, in groups: operations, beside whom to measure, and at most which share of their time.

Every operation is in one group, so that results tell which groups they are of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.records import Key
from benchmarks.targets import DEBIAN, KERNEL, OURS

PEER = "fuse-overlayfs-2.0.0"
PACKED = f"squashfuse+{PEER}"
DEFAULT = "main"


@dataclass(frozen=True, slots=True)
class Bound:
    """At most `most` times what the fastest of `of` takes in the same round, or what we take for another `key`.

    Without either it is a bound on our own value. Nothing is asked if `most` is 0, or on machines of fewer CPUs.
    """

    label: str
    most: float = 0.0
    of: tuple[str, ...] = ()
    key: Key | None = None
    cpus: int = 1

    @property
    def absolute(self) -> bool:
        """Say whether our own value is bounded."""
        return not (self.of or self.key)


@dataclass(frozen=True, slots=True)
class Requirement:
    """An operation and its bounds."""

    title: str
    key: Key
    bounds: tuple[Bound, ...]

    def keys(self) -> Iterator[Key]:
        """Yield all that has to be measured."""
        yield self.key
        yield from (bound.key for bound in self.bounds if bound.key)


@dataclass(frozen=True, slots=True)
class Group:
    """Operations that are measured beside the same subjects, which are named in the order of the columns."""

    name: str
    subjects: tuple[str, ...]
    rows: tuple[Requirement, ...]
    note: str

    def labels(self) -> list[str]:
        """Return the labels of all bounds, in order."""
        return list(dict.fromkeys(bound.label for row in self.rows for bound in row.bounds))


def of_peer(most: float = 0.0) -> Bound:
    """Return a bound on our share of fuse-overlayfs 2's time."""
    return Bound("of fo 2", most, (PEER,))


def of_debian(most: float = 0.0) -> Bound:
    """Return the same for fuse-overlayfs 1.10."""
    return Bound("of fo 1.10", most, (DEBIAN,))


def of_kernel(most: float = 0.0) -> Bound:
    """Return the same for the kernel's overlay."""
    return Bound("of kernel", most, (KERNEL,))


def of_faster(most: float) -> Bound:
    """Return the same for the faster fuse-overlayfs of a round."""
    return Bound("of faster fo", most, (DEBIAN, PEER))


def beside(title: str, key: Key, peer: float = 0.0, kernel: float = 0.0) -> Requirement:
    """Return an operation of which shares of fuse-overlayfs 2's and of the kernel's time are asked; 0: not asked."""
    return Requirement(title, key, (of_peer(peer), of_kernel(kernel)))


FOUR = (KERNEL, DEBIAN, PEER, OURS)
OWN, SHARED, BIG, PACKS = "own/10", "shared/40", "big/10", "own.sqfs/10"

MAIN = Group(
    DEFAULT,
    FOUR,
    (
        beside("warm open+read+close", Key("open", OWN, "open.warm"), 0.15, 0.9),
        beside("warm stat", Key("lookup", OWN, "stat.warm"), 1.0, 1.0),
        beside("warm absent name", Key("lookup", OWN, "absent.warm"), 0.1, 1.0),
        beside("warm walk", Key("walk", OWN, "walk.warm"), 0.5, 1.2),
        beside("cold stat", Key("lookup", OWN, "stat.cold"), 0.65),
        beside("cold absent name", Key("lookup", OWN, "absent.cold"), 0.65),
        beside("cold walk", Key("walk", OWN, "walk.cold"), 0.85),
        beside("cold open+read+close", Key("open", OWN, "open.cold"), 0.95),
        beside("256 MiB read, cold", Key("read", BIG, "sequential.cold"), 1 / 0.9, 1 / 0.6),
        beside("256 MiB read, warm", Key("read", BIG, "sequential.warm"), 1 / 0.9, 1 / 0.6),
        beside("create 4 KiB", Key("create", OWN, "create.cold"), 0.8),
        beside("unlink lower file", Key("unlink", OWN, "unlink.cold"), 0.8),
        beside("rename lower file", Key("rename", OWN, "rename.cold"), 0.8),
        beside("copy-up 4 KiB", Key("copyup", OWN, "append.cold"), 1.0),
        beside("40 layers: cold stat", Key("lookup", SHARED, "stat.cold"), 0.65, 0.95),
        beside("40 layers: cold absent", Key("lookup", SHARED, "absent.cold"), 0.65, 0.2),
        beside("40 layers: cold walk", Key("walk", SHARED, "walk.cold"), 0.95, 0.7),
    ),
    "us for one operation, MB/s of a read",
)
CHANGES = Group(
    "changes",
    FOUR,
    (
        beside("mkdir", Key("mkdir", OWN, "mkdir.cold"), 0.8),
        beside("256 MiB write, to close", Key("write", OWN, "closed.cold"), 1 / 0.9, 1 / 0.6),
        beside("256 MiB write, to fsync", Key("write", OWN, "synced.cold"), 1 / 0.9, 1 / 0.6),
    ),
    "us for one operation, MB/s of a write",
)
REAL = Group(
    "real",
    FOUR,
    (
        beside("find, cold", Key("real_find", "real/40", "find.cold"), 0.6),
        beside("find, warm", Key("real_find", "real/40", "find.warm")),
        beside("git status, cold", Key("real_git", "repo/40", "status.cold"), 0.5),
        beside("git status, warm", Key("real_git", "repo/40", "status.warm")),
        beside("import of numpy .., cold", Key("real_import", "real/40", "import.cold"), 0.8),
        beside("import of numpy .., warm", Key("real_import", "real/40", "import.warm")),
        beside("tar x of a rootfs", Key("real_untar", "tiny/40", "untar.cold"), 0.8),
        beside("C build", Key("real_build", "csrc/40", "make.cold"), 1.0),
    ),
    "ms, all over 40 layers",
)
WIDE = Group(
    "wide",
    FOUR,
    tuple(
        Requirement(title, Key("find", case, "find.warm"), (of_debian(1.0), of_kernel(1.0)))
        for title, case in (
            ("find, 5,000 names in one", "wide-5000/10"),
            ("find, 10,000 in one", "wide-10000/10"),
            ("find, 10,000 in 200", OWN),
        )
    ),
    "ms of a warm find, directories over 10 layers",
)
IMAGES = Group(
    "images",
    (PACKED, OURS),
    tuple(
        Requirement(title, Key(question, PACKS, measure), (Bound("of squashfuse", 0.35, (PACKED,)),))
        for title, question, measure in (
            ("cold stat", "lookup", "stat.cold"),
            ("cold walk", "walk", "walk.cold"),
            ("cold open+read+close", "open", "open.cold"),
        )
    ),
    f"us for one operation, ten images; squashfuse: {PEER} over ten squashfuse_ll",
)
FLAT = Group(
    "flat",
    (OURS,),
    tuple(
        Requirement(
            f"{state} {title}",
            Key(question, "own/128", f"{measure}.{state}"),
            (Bound("of 1 layer", most, key=Key(question, "own/1", f"{measure}.{state}")),),
        )
        for state, most in (("warm", 1.1), ("cold", 1.3))
        for title, question, measure in (
            ("stat", "lookup", "stat"),
            ("absent name", "lookup", "absent"),
            ("walk", "walk", "walk"),
            ("open+read+close", "open", "open"),
        )
    ),
    "us for one operation, 128 layers",
)
READERS = Group(
    "readers",
    FOUR,
    tuple(
        Requirement(
            f"{title}, two readers",
            Key("readers", OWN, f"{op}.two.cold"),
            (
                Bound("of one reader", 1 / 1.6, key=Key("readers", OWN, f"{op}.one.cold"), cpus=4),
                of_peer(),
                of_kernel(),
            ),
        )
        for title, op in (("stat", "stat"), ("absent name", "absent"), ("open+read+close", "open"))
    ),
    "us for one operation, cold; with fewer than four CPUs nothing is asked",
)
MOUNTS = Group(
    "mounts",
    FOUR,
    (
        Requirement("held inode [B]", Key("memory", OWN, "per-inode"), (Bound("value", 400.0),)),
        Requirement("idle [CPU per mille]", Key("idle", OWN, "cpu"), (Bound("value", 0.2),)),
        Requirement("short mount [ms]", Key("short", OWN, "whole"), (Bound("value", 20.0), of_debian())),
        Requirement("short mount, CPU [ms]", Key("short", OWN, "cpu"), (Bound("value", 20.0), of_debian())),
        Requirement("short mount, PSS [MB]", Key("short", OWN, "pss"), (Bound("value", 6.0), of_debian())),
        Requirement("64 mounts at once [ms]", Key("concurrency", f"{OWN} concurrency=64", "all"), (of_debian(1.5),)),
    ),
    "the short mount follows another one",
)
PROGRAMS = Group(
    "programs",
    FOUR,
    tuple(
        Requirement(title, Key(question, case, measure), (of_faster(0.9), of_kernel()))
        for title, question, case, measure in (
            ("apt install [ms]", "real_apt", "debian/10", "install.cold"),
            ("dpkg [ms]", "real_dpkg", "debian/10", "dpkg.cold"),
            ("npm ci [ms]", "real_npm", "npm/10", "ci.cold"),
            ("pgbench [ms]", "real_pgbench", "database/10", "pgbench.cold"),
            ("create, rename [us]", "replace", OWN, "new.cold"),
            ("create, replace [us]", "replace", OWN, "lower.cold"),
        )
    ),
    "whole programs; loops: one file of 4 KiB",
)
UPGRADE = Group(
    "upgrade",
    FOUR,
    (
        Requirement(
            "apt dist-upgrade [ms]", Key("real_upgrade", "upgrade/10", "upgrade.cold"), (of_faster(0.9), of_kernel())
        ),
    ),
    "from one release of Debian to the next; one round takes minutes",
)
GROUPS = (MAIN, CHANGES, REAL, WIDE, IMAGES, FLAT, READERS, MOUNTS, PROGRAMS, UPGRADE)
