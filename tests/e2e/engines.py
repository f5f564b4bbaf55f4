"""podman and buildah with stores of their own, whose mounts are made by one mount program."""

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from layerfs.mounts.registry import birth
from tests.host import require
from tests.waiting import wait_until

from .people import Kind
from .stage import Stage, kill, mounts_below, processes_naming

FUSE_OVERLAYFS = Path("/usr/bin/fuse-overlayfs")
BUSYBOX = Path("/bin/busybox")
APPLETS = "ash awk cat chmod chown cp find grep head id ln ls md5sum mkdir mkfifo mv rm sed seq sh sleep sort stat tail"
APPLETS += " tar test touch true wc xargs"
STORAGE = """[storage]
driver = "overlay"
graphroot = "{root}/graph"
runroot = "{runtime}/containers"
[storage.options.overlay]
{program}
{extra}
"""
# A host without systemd and with cgroups of version 1 needs all of it.
GLOBAL = ("--cgroup-manager=cgroupfs", "--runtime=runc")
LIMITED = ("--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")


class Engine:
    """One person's podman and buildah; without a mount program they use kernel overlayfs."""

    def __init__(self, stage: Stage, program: Path | None, name: str = "engine", extra: str = "") -> None:
        self.stage = stage
        self.root = stage.directory(name)
        self.runtime = stage.directory(f"run{name[:3]}")  # podman refuses run roots of more than 50 characters
        self.runtime.chmod(0o700 if stage.kind is Kind.USER else 0o711)
        mount_program = f'mount_program = "{program}"' if program else ""
        storage = STORAGE.format(root=self.root, runtime=self.runtime, program=mount_program, extra=extra)
        self.environment = {
            "HOME": str(stage.directory(f"{name}/home")),
            "TMPDIR": str(stage.directory(f"{name}/scratch")),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "CONTAINERS_STORAGE_CONF": str(stage.layer(f"{name}/etc", {"storage.conf": storage}) / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def attempt(self, verb: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a podman command and return how it went."""
        limits = LIMITED if verb in ("run", "create") else ()
        apart = () if self.stage.kind is Kind.USER else (f"--tmpdir={self.runtime}/libpod/tmp",)
        return self.stage.attempt("podman", *GLOBAL, *apart, verb, *limits, *words, env=self.environment)

    def podman(self, verb: str, *words: str | Path) -> str:
        """Run a podman command that must succeed and return what it printed."""
        done = self.attempt(verb, *words)
        assert done.returncode == 0, f"podman {verb} {words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def buildah(self, *words: str | Path) -> str:
        return self.stage.run("buildah", *words, env=self.environment)

    def inside(self, *words: str | Path) -> str:
        """Run a command where the store's mounts can be seen: in podman's namespace when rootless."""
        enter = ("podman", "unshare") if self.stage.kind is Kind.USER else ()
        return self.stage.run(*enter, *words, env=self.environment)

    def container(self, image: str, script: str, *options: str) -> str:
        """Run a shell script in a new container that is then removed."""
        return self.podman("run", "--rm", *options, image, "sh", "-euc", script)

    def export(self, image: str) -> dict[str, object]:
        """Describe the files of an image as a container would see them."""
        name = self.podman("create", image, "true").strip()
        path = self.root / "export.tar"
        self.podman("export", "-o", path, name)
        self.podman("rm", name)
        with tarfile.open(path) as archive:
            return {member.name: _facts(archive, member) for member in archive}

    def mounts(self) -> list[str]:
        """Mounts of the store, as podman's own namespace sees them."""
        points = [line.split()[4] for line in self.inside("cat", "/proc/self/mountinfo").splitlines()]
        return [point for point in points if point.startswith(f"{self.root}/") and not point.endswith("/overlay")]

    def close(self) -> None:
        """End rootless podman's pause process, which keeps its namespace and the mounts in it.

        And take away what root's podman may leave: a bind mount of its store's directory upon itself, where conmon has
        started a last `podman container cleanup` beside the command that would unmount it.
        """
        own = self.root / "graph/overlay"
        if self.stage.kind is Kind.ROOT:
            wait_until(lambda: not any("cleanup" in words for words in processes_naming(self.root).values()))
            while own in mounts_below(self.root):
                subprocess.run(["umount", own], check=True)
        pause = self.runtime / "libpod/tmp/pause.pid"
        if pause.exists():
            pid = int(pause.read_text())
            kill(pid)
            wait_until(lambda: birth(pid) == 0, "podman's pause process is still there")


def _facts(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Sequence[object]:
    content = archive.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
    xattrs = {name: value for name, value in member.pax_headers.items() if "xattr" in name}
    return (member.type, oct(member.mode), member.uid, member.gid, member.linkname, member.size, hash(content), xattrs)


@contextmanager
def engine(stage: Stage, program: Path | None, name: str = "engine", extra: str = "") -> Iterator[Engine]:
    """An engine with the image `localhost/base`; all its containers and images go at the end, and must go cleanly."""
    require(*(["subids"] if stage.kind is Kind.USER else []))
    made = Engine(stage, program, name, extra)
    try:
        made.podman("import", base_image(made.root / "base.tar"), "localhost/base")
        yield made
        made.podman("system", "prune", "--all", "--force")
        made.buildah("rm", "--all")
        assert made.mounts() == []
    finally:
        made.close()


def base_image(path: Path) -> Path:
    """Write a root filesystem with busybox, some hundred files, a hard link, a setuid file and other owners."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in "bin dev etc proc sys tmp data data/deep data/deep/er opt opt/keep".split():
            _add(archive, folder, tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        _add(archive, "bin/busybox", content=BUSYBOX.read_bytes(), mode=0o755)
        for applet in APPLETS.split():
            _add(archive, f"bin/{applet}", tarfile.SYMTYPE, link="busybox")
        _add(archive, "etc/passwd", content=b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        for number in range(100):
            _add(archive, f"data/deep/f{number}", content=b"%d\n" % number)
            _add(archive, f"data/deep/er/g{number}", content=b"%d\n" % -number)
        _add(archive, "data/owned", content=b"theirs\n", mode=0o640, owner=1000)
        _add(archive, "data/setuid", content=b"#!/bin/sh\n", mode=0o4755)
        _add(archive, "opt/keep/linked", content=b"linked\n")
        _add(archive, "opt/linked", tarfile.LNKTYPE, link="opt/keep/linked")
    return path


def _add(
    archive: tarfile.TarFile,
    name: str,
    kind: bytes = tarfile.REGTYPE,
    *,
    content: bytes = b"",
    mode: int = 0o644,
    owner: int = 0,
    link: str = "",
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname, member.size = kind, mode, link, len(content)
    member.uid = member.gid = owner
    member.mtime = 1_000_000_000
    archive.addfile(member, io.BytesIO(content))
