"""What snapshotters present: `layerfs snapshot prepare` and `mount` over each driver, and containerd's `ctr snapshots`.

The layers of a tree are committed one on the other before anything is timed, once for a run. A mount is then the whole
way from a committed parent to a writable rootfs: prepare, and mount what that says. Unmounting removes the snapshot
too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree, Case, Site
from benchmarks.subjects.btrfs import SIZE
from benchmarks.subjects.layerfs_mount import compile_package, program
from benchmarks.subjects.plain import Plain, need_program

PATIENCE = 120.0  # s for images to be packed, for a daemon to answer
DRIVERS = ("overlay", "fuse", "xar", "btrfs")
CONFIG = """version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{address}"
[ttrpc]
  address = ""
"""


def top_of(layers: BuiltTree, index: int = 0) -> str:
    """Return what a layer of a tree is called, and all below it; 0 is the top."""
    return f"{layers.tree}-{len(layers.lowers)}-{len(layers.lowers) - index}"


class SnapshotSubject(Plain):
    """`layerfs snapshot` with one driver."""

    def __init__(self, driver: str, cache: Path) -> None:
        self.driver = driver
        self.name = f"snapshot-{driver}"
        self.about = f"layerfs snapshot prepare and mount, --snapshotter {driver}"
        self.home = cache / f"snapshots-{driver}"
        self.root = self.home / "store"
        self.made: set[str] = set()

    def missing(self) -> str | None:
        """Need root, the program, and what a driver needs."""
        if not program():
            return "the program layerfs is not installed beside this Python (`make setup`)"
        return (need_program("mkfs.btrfs", "btrfs-progs") if self.driver == "btrfs" else None) or super().missing()

    def refuses(self, case: Case) -> str | None:
        """Decline the largest trees, which would be copied."""
        return "the tree would be copied" if case.tree in ("million", "huge") else None

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Commit the layers of a tree, once."""
        compile_package()
        if not self.made:
            self._make_home()
        if top_of(layers) not in self.made:
            self._commit(layers)
            self.made.add(top_of(layers))

    def _make_home(self) -> None:
        self.finish()
        self.home.mkdir(parents=True)
        if self.driver == "btrfs":
            self.root = a_btrfs(self.home) / "store"

    def _commit(self, layers: BuiltTree) -> None:
        import layerfs

        with layerfs.open_store(self.root) as store:
            snapshots = store.snapshotter(self.driver)
            parent = ""
            for index in reversed(range(len(layers.lowers))):
                name = top_of(layers, index)
                snapshots.prepare("filling", parent)
                copy(layers.lowers[index], Path(os.fsdecode(snapshots.layer("filling").path)))
                snapshots.commit(name, "filling")
                parent = name
            if self.driver == "xar":
                until(lambda: snapshots.layer(parent).path.endswith(b".xar"))

    def _words(self, *words: str | Path) -> str:
        options = ["--root", self.root, "--snapshotter", self.driver]
        return shlex.join([program(), "snapshot", str(words[0]), *map(str, [*options, *words[1:]])])

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Prepare, then mount, as two commands."""
        key = site.home.name
        lines = [self._words("prepare", key, top_of(layers)) + " >/dev/null", self._words("mount", key, site.mnt)]
        return ["/bin/sh", "-ec", "\n".join(lines)]

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unmount, and remove the snapshot."""
        return ["/bin/sh", "-ec", f"{self._words('umount', site.mnt)}\n{self._words('rm', site.home.name)}"]

    def finish(self) -> None:
        """Take the store away."""
        clear(self.home)
        self.made.clear()


class ContainerdSubject(Plain):
    """`ctr snapshots` with one of containerd's own snapshotters; the daemon is started for the run."""

    def __init__(self, snapshotter: str, cache: Path) -> None:
        self.snapshotter = snapshotter
        self.name = f"ctr-{snapshotter}"
        self.about = f"ctr snapshots prepare and mounts, containerd's snapshotter {snapshotter}"
        self.home = cache / f"containerd-{snapshotter}"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.made: set[str] = set()

    def missing(self) -> str | None:
        """Need root, containerd and ctr, and a program that makes btrfs."""
        if self.snapshotter == "btrfs" and (why := need_program("mkfs.btrfs", "btrfs-progs")):
            return why
        return need_program("containerd", "containerd") or need_program("ctr", "containerd") or super().missing()

    def version(self) -> str:
        """Return what containerd calls itself."""
        return subprocess.run(["containerd", "--version"], capture_output=True, text=True).stdout.strip()

    def refuses(self, case: Case) -> str | None:
        """Decline what ctr's mount(2) cannot take, and the largest trees."""
        if case.tree in ("million", "huge"):
            return "the tree would be copied"
        return "mount(2) takes no more layers" if case.layers > 60 and self.snapshotter == "overlayfs" else None

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Start the daemon and commit the layers of a tree, once."""
        if self.daemon is None:
            self._start()
        if top_of(layers) not in self.made:
            parent: list[str] = []
            for index in reversed(range(len(layers.lowers))):
                name = top_of(layers, index)
                self._ctr("prepare", "filling", *parent)
                self._fill("filling", layers.lowers[index])
                self._ctr("commit", name, "filling")
                parent = [name]
            self.made.add(top_of(layers))

    def _start(self) -> None:
        clear(self.home)
        self.home.mkdir(parents=True)
        root = a_btrfs(self.home) if self.snapshotter == "btrfs" else self.home / "root"
        config = self.home / "config.toml"
        config.write_text(CONFIG.format(root=root, state=self.home / "state", address=self._address))
        log = open(self.home / "log", "wb")
        self.daemon = subprocess.Popen(["containerd", "--config", str(config)], stdout=log, stderr=log)
        log.close()
        until(self._address.exists)

    @property
    def _address(self) -> Path:
        return self.home / "sock"

    def _ctr(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"ctr snapshots {words[0]}: {done.stderr.strip()}")
        return done.stdout

    @property
    def _command(self) -> list[str]:
        return ["/usr/bin/ctr", "--address", str(self._address), "snapshots", "--snapshotter", self.snapshotter]

    def _fill(self, key: str, layer: Path) -> None:
        """Copy a layer into an active snapshot: where ctr's mounts have the upper, else through the mount itself."""
        target = self.home / "filling"
        target.mkdir(exist_ok=True)
        line = self._ctr("mounts", str(target), key)
        upper = next((o[9:] for word in shlex.split(line) for o in word.split(",") if o.startswith("upperdir=")), "")
        if upper:
            copy(layer, Path(upper))
            return
        subprocess.run(["/bin/sh", "-ec", line], check=True)
        try:
            copy(layer, target)
        finally:
            subprocess.run(["umount", str(target)], check=True)

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Prepare, then execute the mount that ctr prints."""
        ctr, key = shlex.join(self._command), site.home.name
        lines = [f"{ctr} prepare {key} {top_of(layers)}", f"{ctr} mounts {site.mnt} {key} | /bin/sh -e"]
        return ["/bin/sh", "-ec", "\n".join(lines)]

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unmount, and remove the snapshot."""
        return ["/bin/sh", "-ec", f"umount {site.mnt}\n{shlex.join(self._command)} rm {site.home.name}"]

    def finish(self) -> None:
        """End the daemon."""
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait()
            self.daemon = None
            clear(self.home)
            self.made.clear()


def a_btrfs(home: Path) -> Path:
    """Make a btrfs in a file, mount it, and return where."""
    image, mnt = home / "image", home / "mnt"
    image.touch()
    os.truncate(image, SIZE)
    mnt.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mnt)], check=True)
    return mnt


def clear(home: Path) -> None:
    """Take a directory away, and a btrfs that is mounted in it."""
    if (home / "mnt").is_mount():
        subprocess.run(["umount", str(home / "mnt")], capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """Copy a layer into a directory with all its metadata."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError("it takes too long to prepare")
        time.sleep(0.05)
