"""Chains of snapshots beside chains of kernel overlayfs made by hand: equal operations, then equal trees.

A run is told by a seed. It prepares on committed snapshots or on nothing, changes what is there at random, commits,
looks at views, removes, and goes on from any of what was committed. What is compared is the whole tree: types, modes,
owners, sizes, contents, devices, times, xattrs, and which names are one file.

Left out is what kernel overlayfs does to files of several names once they are copied up: it parts them. So such files
are made, shown and unlinked here, and not changed.
"""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.contract.subjects import Subject
from tests.oracle.trees import Tree, differences, read_tree

ROUNDS, CHANGES = 7, 30  # of a run, and of a round; guessed so that a run takes some seconds
NAMES = ("a", "b", "c", "d")
TIMES = (0, 1_234_567_890_987_654_321, 1_000_000_000_500_000_000)
OPTIONS = "redirect_dir=on,index=off,xino=off,metacopy=off"


class Kernel:
    """The reference: layers in directories, stacked by mount(8)."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.count = 0
        self.stacks: dict[str, tuple[Path, ...]] = {"": ()}

    def prepare(self, parent: str) -> Path:
        self.count += 1
        upper = self.place / f"layer{self.count}"
        upper.mkdir(parents=True)
        below = self.stacks[parent]
        if below:
            shutil.copystat(below[0], upper)
            st = below[0].stat()
            os.chown(upper, st.st_uid, st.st_gid)
            os.utime(upper, ns=(st.st_atime_ns, st.st_mtime_ns))
        return upper

    def commit(self, name: str, upper: Path, parent: str) -> None:
        self.stacks[name] = (upper, *self.stacks[parent])

    @contextmanager
    def at(self, upper: Path | None, below: tuple[Path, ...]) -> Iterator[Path]:
        target = self.place / "at"
        target.mkdir(exist_ok=True)
        layers = below if upper is None else (upper, *below)
        if len(layers) == 1:
            words = ["--bind", str(layers[0])]
        else:
            lowers = ":".join(map(str, below))
            work = self.place / f"work{self.count}"
            work.mkdir(exist_ok=True)
            writable = "" if upper is None else f",upperdir={upper},workdir={work}"
            words = ["-t", "overlay", "overlay", "-o", f"lowerdir={lowers}{writable},{OPTIONS}"]
        subprocess.run(["mount", "-i", *words, target], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", target], check=True)


Change = Callable[[random.Random, list[Path], Path], Callable[[Path], None] | None]


class Run:
    """One run of a driver beside the kernel."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.kernel = subject, Kernel(subject.place / "kernel")
        self.chance = random.Random(seed)
        self.number = 0

    def run(self) -> None:
        for _ in range(ROUNDS):
            self.number += 1
            parent = self.chance.choice([*self.kernel.stacks][-4:])
            self.extend(parent)
            for name in self.chance.sample([*self.kernel.stacks][1:], min(2, self.number)):
                self.look(name)
        self.forget()

    def extend(self, parent: str) -> None:
        """Prepare on a committed snapshot, change, and commit under the next name."""
        key, name = f"key{self.number}", f"name{self.number}"
        upper = self.kernel.prepare(parent)
        self.subject.snapshots.prepare(key, parent)
        with self.kernel.at(upper, self.kernel.stacks[parent]) as here, self.subject.at(key) as there:
            for _ in range(CHANGES):
                change = self.choose(here)
                if change is not None:
                    change(here)
                    change(there)
            self.compare(f"{key} on {parent or 'nothing'}", here, there)
        self.kernel.commit(name, upper, parent)
        self.subject.snapshots.commit(name, key, volatile=True)

    def look(self, name: str) -> None:
        """Compare a committed snapshot, as a view."""
        self.subject.snapshots.view("look", name)
        with self.kernel.at(None, self.kernel.stacks[name]) as here, self.subject.at("look") as there:
            self.compare(name, here, there)
        self.subject.snapshots.remove("look")

    def forget(self) -> None:
        """Remove everything, children first: that is all there is."""
        for number in range(self.number, 0, -1):
            self.subject.snapshots.remove(f"name{number}")
        self.subject.snapshots.cleanup()
        assert list(self.subject.snapshots.walk()) == []

    def compare(self, what: str, here: Path, there: Path) -> None:
        expected, actual = (read_tree(os.fsencode(path)) for path in (here, there))
        lines = differences(self.shown(expected), self.shown(actual))
        assert not lines, "\n  ".join([f"{what}:", *lines[:20]])
        one, other = families(here), families(there)
        assert one == other, f"{what}: hard links: {[sorted(group) for group in one ^ other]}"

    def shown(self, tree: Tree) -> Tree:
        """What can be the same: links are compared as families; an image has times to the second."""
        records = {path: record._replace(nlink=None) for path, record in tree.records.items()}
        if self.subject.name == "xar":
            for path, record in records.items():
                if isinstance(record.mtime, int):
                    records[path] = record._replace(mtime=record.mtime // 10**9)
        return replace(tree, records=records)

    def choose(self, here: Path) -> Callable[[Path], None] | None:
        """Return a change that both sides can make, as the reference's tree stands now."""
        found = [path.relative_to(here) for path in sorted(here.rglob("*"))]
        name = self.chance.choice(list(CHOICES))
        return CHOICES[name](self.chance, found, here)


def families(root: Path) -> set[frozenset[str]]:
    """The names that are one file, where it has several; numbers are told apart by their layer's st_dev."""
    groups: dict[tuple[int, int], set[str]] = {}
    for path in root.rglob("*"):
        st = path.lstat()
        if stat.S_ISREG(st.st_mode):
            groups.setdefault((st.st_dev, st.st_ino), set()).add(str(path.relative_to(root)))
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def _directory(chance: random.Random, found: list[Path], here: Path) -> Path:
    inside = [path for path in found if stat.S_ISDIR((here / path).lstat().st_mode) and len(path.parts) < 4]
    return chance.choice([Path(), *inside])


def _absent(chance: random.Random, found: list[Path], here: Path) -> Path | None:
    path = _directory(chance, found, here) / chance.choice(NAMES)
    return None if os.path.lexists(here / path) else path


def _single(chance: random.Random, found: list[Path], here: Path, *kinds: str) -> Path | None:
    """Some file of one name, of these types (letters of ls)."""
    fit = []
    for path in found:
        letter = stat.filemode((here / path).lstat().st_mode)[0]
        if (not kinds or letter in kinds) and _is_single(here / path):
            fit.append(path)
    return chance.choice(fit) if fit else None


def _is_single(path: Path) -> bool:
    st = path.lstat()
    return stat.S_ISDIR(st.st_mode) or st.st_nlink == 1


def _make(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    path = _absent(chance, found, here)
    if path is None:
        return None
    kind = chance.choice(["file", "file", "dir", "dir", "link", "fifo", "device"])
    size, time = chance.choice([0, 10, 9000]), chance.choice(TIMES)

    def act(root: Path) -> None:
        full = root / path
        if kind == "file":
            full.write_bytes(b"x" * size)
        elif kind == "dir":
            full.mkdir()
        elif kind == "link":
            full.symlink_to("../a/b")
        elif kind == "fifo":
            os.mkfifo(full)
        else:
            os.mknod(full, 0o600 | stat.S_IFCHR, os.makedev(240, 7))
        os.utime(full, ns=(time, time), follow_symlinks=False)

    return act


def _link(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    path = _absent(chance, found, here)
    if path is None:
        return None
    other = path.with_name(path.name + "-again")

    def act(root: Path) -> None:
        (root / path).write_bytes(b"linked")
        if not os.path.lexists(root / other):
            os.link(root / path, root / other)

    return act


def _remove(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    if not found:
        return None
    path = chance.choice(found)

    def act(root: Path) -> None:
        if (root / path).is_dir() and not (root / path).is_symlink():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink()

    return act


def _replace_directory(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    path = _single(chance, found, here, "d")

    def act(root: Path) -> None:
        assert path is not None
        shutil.rmtree(root / path)
        (root / path).mkdir()
        (root / path / "new").write_text("new")

    return act if path is not None else None


def _rename(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    path, to = _single(chance, found, here), _absent(chance, found, here)
    if path is None or to is None or path in to.parents:
        return None
    if any(path in inner.parents and not _is_single(here / inner) for inner in found):
        return None
    return lambda root: os.rename(root / path, root / to)


def _write(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    path, size = _single(chance, found, here, "-"), chance.choice([0, 5, 5000])

    def act(root: Path) -> None:
        assert path is not None
        with open(root / path, "r+b") as file:
            file.write(b"written")
            file.truncate(size)

    return act if path is not None else None


def _attributes(chance: random.Random, found: list[Path], here: Path) -> Callable[[Path], None] | None:
    path = _single(chance, found, here, "-", "d")
    mode, owner, time = chance.choice([0o600, 0o755, 0o4711, 0o1777]), chance.choice([0, 7]), chance.choice(TIMES)
    key = chance.choice(["user.one", "trusted.one", "security.one"])

    def act(root: Path) -> None:
        assert path is not None
        os.chown(root / path, owner, owner)
        os.chmod(root / path, mode)
        os.setxattr(root / path, key, b"value")
        os.utime(root / path, ns=(time, time))

    return act if path is not None else None


CHOICES: dict[str, Change] = {
    "make": _make,
    "make too": _make,
    "make more": _make,
    "link": _link,
    "remove": _remove,
    "replace a directory": _replace_directory,
    "rename": _rename,
    "write": _write,
    "attributes": _attributes,
}
