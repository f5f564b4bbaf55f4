"""A scratch directory of layers and mounts that leaves no mount, process or file behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.host import BIN, Person, find_person, require
from tests.waiting import PATIENCE, wait_until

from . import manifest
from .manifest import Facts
from .people import HOLDER, Kind, inside

Tree = Mapping[str, "str | bytes | Path | Tree | None"]
Environment = Mapping[str, str]
NOTHING: Environment = {}
LAYERFS, LAYERFS_MOUNT = BIN / "layerfs", BIN / "layerfs-mount"


@dataclass(frozen=True)
class Union:
    """A mountpoint and what is stacked there, top first."""

    merged: Path
    lowers: tuple[Path, ...]
    upper: Path | None
    work: Path | None

    @property
    def options(self) -> str:
        """The stack in the words of mount(8)."""
        words = [f"lowerdir={':'.join(map(str, self.lowers))}"]
        if self.upper and self.work:
            words += [f"upperdir={self.upper}", f"workdir={self.work}"]
        return ",".join(words)


class Stage:
    """Where one person builds layers, mounts them and works in them."""

    def __init__(self, kind: Kind) -> None:
        require("fuse", "user xattrs", *{Kind.ROOT: ["root"], Kind.USER: ["person"], Kind.USERNS: ["subids"]}[kind])
        self.kind = kind
        self.root = Path(tempfile.mkdtemp(prefix="e2e-", dir="/var/tmp"))
        self.root.chmod(0o755)
        home = self.root / "home"
        self.person = Person("root", 0, 0, home) if kind is Kind.ROOT else find_person(home)
        self.person.owns(self.root, home)
        self.exits = ExitStack()
        if kind is Kind.USERNS:
            self.person = self.exits.enter_context(inside(self.person, self.root))
        self.attached: list[Union] = []

    def attempt(
        self, *words: str | Path, cwd: Path | None = None, stdin: str = "", env: Environment = NOTHING
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as the person and return how it went."""
        # subprocess changes directory before it changes user, and root may not enter another's FUSE mount: env(1) can.
        command = self.person.command(["env", "-C", cwd or self.root, *words])
        return subprocess.run(
            command,
            input=stdin,
            env=self.person.environment() | dict(env),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=PATIENCE,
            umask=0o022,
            check=False,
        )

    def run(self, *words: str | Path, cwd: Path | None = None, stdin: str = "", env: Environment = NOTHING) -> str:
        """Run a command that must succeed and return what it printed."""
        done = self.attempt(*words, cwd=cwd, stdin=stdin, env=env)
        assert done.returncode == 0, f"{self.person.name}: exit {done.returncode}: {words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def sh(self, script: str, cwd: Path | None = None, env: Environment = NOTHING) -> str:
        """Run a shell script that stops at its first failure."""
        return self.run("/bin/sh", "-euc", script, cwd=cwd, env=env)

    def directory(self, name: str) -> Path:
        """Make a directory of the person's."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, self.person.uid, self.person.gid)
        return path

    def layer(self, name: str, tree: Tree) -> Path:
        """Write a tree of literals: text and bytes are files (`#!` executable), a Path a symlink, None a directory."""
        path = self.directory(name)
        self._write(path, tree)
        return path

    def _write(self, folder: Path, tree: Tree) -> None:
        for name, content in tree.items():
            path = folder / name
            if content is None or isinstance(content, Mapping):
                path.mkdir()
                self._write(path, content or {})
            elif isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
                path.chmod(0o755 if content[:2] in ("#!", b"#!") else 0o644)
            os.chown(path, self.person.uid, self.person.gid, follow_symlinks=False)

    def stack(self, *lowers: Path, name: str = "union", writable: bool = True) -> Union:
        """Name a stack without mounting it."""
        upper, work = (self.directory(f"{name}.upper"), self.directory(f"{name}.work")) if writable else (None, None)
        return Union(self.directory(name), lowers, upper, work)

    def mount(self, *lowers: Path, name: str = "union", writable: bool = True) -> Union:
        """Mount a stack with FUSE, top layer first."""
        union = self.stack(*lowers, name=name, writable=writable)
        self.attach(union)
        return union

    def attach(self, union: Union, *options: str) -> None:
        """Mount a stack that was named or unmounted before."""
        parts: list[str | Path] = [LAYERFS, "mount", "--driver", "fuse", *union.lowers, union.merged]
        if union.upper and union.work:
            parts += ["--upper", union.upper, "--work", union.work]
        self.run(*parts, *(word for option in options for word in ("-o", option)))
        self.attached.append(union)

    def detach(self, union: Union) -> None:
        """Unmount as any user would, and wait until the server has gone: its upper is then complete."""
        self.attached.remove(union)
        self.run(*(("fusermount3", "-u") if self.kind is Kind.USER else ("umount",)), union.merged)
        wait_until(lambda: not processes_naming(union.merged), f"the server of {union.merged} is still there")

    def remount(self, union: Union) -> None:
        self.detach(union)
        self.attach(union)

    def look(self, path: Path) -> dict[str, Facts]:
        """Describe a tree as the person sees it."""
        seen: dict[str, Facts] = json.loads(self.run(sys.executable, manifest.__file__, path))
        return seen

    def finish(self) -> None:
        """Unmount what was mounted, and find nothing left of it, once servers have ended whose mount a script took."""
        for union in self.attached[::-1]:
            self.detach(union)
        wait_until(lambda: not self.leftovers(), lambda: f"the end of {self.leftovers()}")

    def leftovers(self) -> list[str]:
        """Mounts below this directory, and processes that were told about it."""
        processes = [words for words in processes_naming(self.root).values() if HOLDER not in words]
        return [*map(str, mounts_below(self.root)), *processes]

    def close(self) -> None:
        """End what still runs here, unmount what is still mounted, and delete everything."""
        self.exits.close()
        for path in mounts_below(self.root):
            subprocess.run(["umount", "-l", path], check=False)
        for pid in processes_naming(self.root):
            kill(pid)
        wait_until(lambda: not processes_naming(self.root), f"processes survive in {self.root}")
        shutil.rmtree(self.root)


def differences(left: dict[str, Facts], right: dict[str, Facts]) -> dict[str, object]:
    """What two descriptions of a tree do not agree on, by path and fact."""
    found: dict[str, object] = {}
    for path in sorted(left.keys() | right.keys()):
        here, there = left.get(path), right.get(path)
        if here is None or there is None:
            found[path] = "only on the right" if here is None else "only on the left"
        elif here != there:
            found[path] = {fact: (here[fact], there.get(fact)) for fact in here if here[fact] != there.get(fact)}
    return found


def mounts_below(root: Path) -> list[Path]:
    """Mountpoints in our mount namespace, the deepest first."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.is_relative_to(root)), reverse=True)


def processes_naming(path: Path) -> dict[int, str]:
    """Processes with a path in their arguments, in this or any other namespace."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(path) in words:
                found[int(entry.name)] = f"{entry.name} {words}"
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
