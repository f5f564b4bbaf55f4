"""The words of the harness, and one of its two doors: Subject, what is measured. The other is Question (questions/)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

IMAGES = ".sqfs"
"""How the name of a tree ends whose layers are squashfs images instead of directories."""


class Scale(Enum):
    """How much is asked: QUICK ends within two minutes, FULL takes hours."""

    QUICK = 0
    NORMAL = 1
    FULL = 2


class BenchError(Exception):
    """A sample that could not be taken; the sentence ends up in the report."""


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of a question: which tree over how many layers, and what else the question varies.

    `vary` is shown to the reader and is part of the identity of a measurement; `writes` says that the
    subject's files are changed, so that a subject without copy-on-write needs a private copy.
    """

    tree: str
    layers: int
    vary: tuple[tuple[str, str | int], ...] = ()
    writes: bool = False

    def key(self) -> str:
        """Return the identity used in records and tables, as in `own/10` or `own/10 size=4 KiB`."""
        return " ".join([f"{self.tree}/{self.layers}", *(f"{name}={value}" for name, value in self.vary)])

    def get(self, name: str) -> str | int:
        """Return what the case sets for `name`."""
        return dict(self.vary)[name]

    @property
    def images(self) -> bool:
        """Say whether the layers are images: not every subject can stack those."""
        return self.tree.endswith(IMAGES)


@dataclass(frozen=True, slots=True)
class Value:
    """One number of one sample; `unit` says what it counts; `times` are latencies of its operations [ns].

    `others` is how many CPUs were busy with something that is neither the loop nor the subject's servers.
    """

    measure: str
    value: float
    unit: str = "us"
    times: Sequence[int] = field(default=(), repr=False)
    others: float = 0.0

    @property
    def more_is_better(self) -> bool:
        """Rates are the one unit of which one wants more."""
        return self.unit == "MB/s"


@dataclass(frozen=True, slots=True)
class BuiltTree:
    """A built tree: its layers top first, and the name lists the probe works through."""

    tree: str
    lowers: tuple[Path, ...]
    flat: Path
    present: Path
    absent: Path
    count: int

    def brief(self, count: int) -> BuiltTree:
        """Return the same tree with name lists that end after `count` names."""
        if count >= self.count:
            return self
        return replace(self, present=head(self.present, count), absent=head(self.absent, count), count=count)


def head(names: Path, count: int) -> Path:
    """Return a list of the first `count` names, written beside the whole one."""
    short = names.with_name(f"{names.name}.{count}")
    if not short.exists():
        first = names.read_bytes().split(b"\0")[:count]
        short.write_bytes(b"".join(name + b"\0" for name in first))
    return short


class Site:
    """The directories of one mount for one sample, all below `home`: what a subject needs to know of it."""

    home: Path

    @property
    def mnt(self) -> Path:
        """The mountpoint."""
        return self.home / "mnt"

    @property
    def upper(self) -> Path:
        return self.home / "upper"

    @property
    def work(self) -> Path:
        return self.home / "work"


class Subject(Protocol):
    """Something that stacks layers. Commands are run by the probe, timed, in the harness's environment.

    Every mount is writable with an upper that is empty at first: that is what containers get.
    """

    name: str
    about: str
    owner: int
    """The uid that owns layers and upper: 0, or the unprivileged user of a rootless subject."""
    images: bool
    """Whether it can stack layers that are squashfs images."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words put before every command that has to see the mount (a namespace to enter); none for most."""

    def missing(self) -> str | None:
        """Return why the subject cannot be measured on this host, or None."""

    def version(self) -> str:
        """Return what the report shows; called only when nothing is missing."""

    def refuses(self, case: Case) -> str | None:
        """Return why this case makes no sense for the subject, or None."""

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Do what must not be timed: convert images (kept in the cache), copy a private tree."""

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Return the argv, with an absolute program, that mounts and returns once the mountpoint answers."""

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Return the argv that takes down what mount_command put up."""

    def finish(self) -> None:
        """Give back what `prepare` holds beyond one sample; called once at the end of a run."""
