"""A containerd of its own beside a daemon of ours, an image for it, and a registry on loopback."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import mounts_below
from tests.daemon.client import Served, connects, serving
from tests.host import BIN
from tests.waiting import PATIENCE, wait_until

IMAGE = "localhost/box:1"
CONFIG = """version = {version}
root = "{place}/root"
state = "{place}/state"
disabled_plugins = [{disabled}]
[grpc]
  address = "{place}/c.sock"
[ttrpc]
  address = ""
"""
DISABLED = [
    "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.internal.v1.opt",
]  # fmt: skip
CRI = """
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  disable_snapshot_annotations = false
"""
APPLETS = "cat find ls mkdir mv rm sh sleep touch true"
Entry = bytes | str | None  # a file's bytes, a symlink's target, a directory


def layer(files: Mapping[str, Entry]) -> bytes:
    """A layer tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return made.getvalue()


def layers() -> list[bytes]:
    """Ten layers: busybox, a deletion, and eight small ones."""
    base: dict[str, Entry] = {"bin": None, "bin/busybox": Path("/bin/busybox").read_bytes()}
    base |= {f"bin/{name}": "busybox" for name in APPLETS.split()}
    base |= {"d": None, "d/a": b"a", "etc": None, "etc/gone": b"x"}
    small: list[dict[str, Entry]] = [{f"l{number}": None, f"l{number}/f": b"%d" % number} for number in range(8)]
    deletion: dict[str, Entry] = {"etc/.wh.gone": b"", "etc/two": b"2"}
    return [layer(files) for files in [base, deletion, *small]]


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def packed_digests() -> list[str]:
    """The digests of the image's layers as they lie in a registry."""
    return [digest(gzip.compress(tar, mtime=0)) for tar in layers()]


def _described(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def archive(path: Path) -> Path:
    """Write an OCI archive of an image of ten layers."""
    plain = layers()
    packed = [gzip.compress(tar, mtime=0) for tar in plain]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in plain]},
    }
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _described(config_bytes, "config.v1+json"),
        "layers": [_described(data, "layer.v1.tar+gzip") for data in packed],
    }
    manifest_bytes = json.dumps(manifest).encode()
    names = {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": IMAGE}
    platform = {"os": "linux", "architecture": "amd64"}
    entry = _described(manifest_bytes, "manifest.v1+json", annotations=names, platform=platform)
    index = {"schemaVersion": 2, "manifests": [entry]}
    blobs = {digest(data): data for data in (config_bytes, manifest_bytes, *packed)}
    files: dict[str, Entry] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = json.dumps(index).encode()
    files |= {f"blobs/{name.replace(':', '/')}": data for name, data in blobs.items()}
    path.write_bytes(layer(dict(files)))
    return path


def on_btrfs(place: Path) -> None:
    """Put the store of a place on a filesystem of its own."""
    with open(place / "disk", "wb") as disk:
        disk.truncate(1 << 30)
    subprocess.run(["mkfs.btrfs", "-q", place / "disk"], check=True)
    subprocess.run(["mount", "-o", "loop", place / "disk", place / "store"], check=True)
    (place / "store").chmod(0o700)


def print_config(daemon: Served, program: str) -> str:
    """What `layerfs serve` says that a program's configuration needs."""
    command: list[str | Path] = [BIN / "layerfs", "serve", "--print-config", program, "--address", daemon.address]
    return subprocess.run([*command, "--root", daemon.store], capture_output=True, text=True, check=True).stdout


class Containerd:
    """A containerd with our daemon as its snapshotter. `ctr` runs its command line.

    peers: a directory with the programs of containerd 2.x; without one Debian's 1.6 is meant.
    """

    def __init__(
        self, place: Path, daemon: Served, snapshotter: str, *, cri: bool = False, peers: Path | None = None
    ) -> None:
        self.place = place
        self.daemon = daemon
        self.snapshotter = snapshotter
        before = f"{peers}:{BIN}" if peers else f"{BIN}"  # that is for mount.fuse3: layerfs-mount
        self.environment = os.environ | {"PATH": f"{before}:{os.environ['PATH']}"}
        disabled = ", ".join(f'"{name}"' for name in DISABLED[int(cri) :])
        printed = print_config(daemon, "containerd-2" if peers else "containerd-1")
        text = CONFIG.format(version=3 if peers else 2, place=place, disabled=disabled) + printed
        (place / "c.toml").write_text(text + (CRI.format(snapshotter=snapshotter) if cri else ""))
        self.process = self.start()

    @property
    def socket(self) -> Path:
        return self.place / "c.sock"

    def start(self) -> "subprocess.Popen[bytes]":
        with open(self.place / "c.log", "ab") as log:
            command = ["containerd", "--config", str(self.place / "c.toml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        wait_until(lambda: connects(self.socket))
        wait_until(lambda: self.attempt("version").returncode == 0)
        return self.process

    def kill(self) -> None:
        """End containerd with no warning; shims and containers stay."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def attempt(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        command = ["ctr", "--address", str(self.socket), *map(str, words)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=self.environment
        )

    def ctr(self, *words: str | Path, left: str = "") -> str:
        """Run a ctr command that must succeed, and return what it printed.

        `left` is the container that a run leaves if it fails.
        """
        done = self.attempt(*words)
        for _ in range(3):
            if not (left or "--rm" in words) or "failed with ECHILD" not in done.stderr:
                break
            # 1.6's shim took the mount helper's status, ten times: on a busy machine it does so at every other try,
            # whatever the helper is (24 containers: layerfs-mount was called 50 times, a script that runs mount(8) 54).
            if left:
                self.delete(left)
            done = self.attempt(*words)
        assert done.returncode == 0, f"ctr {words}: {done.stdout}{done.stderr}\n{self.daemon.log()[-2000:]}"
        return done.stdout

    def id(self, name: str) -> str:
        """A container's id; runc's state and the cgroups are the whole host's, and so others' as well."""
        return f"{name}-{os.fsencode(self.place.name).hex()[-16:]}"

    def run(self, name: str, *command: str, detached: bool = False, options: Sequence[str] = ()) -> str:
        """Run a container, and return what it has written; ctr itself may lose that on a busy machine."""
        said = self.place / "said" / name
        said.mkdir(parents=True)
        bind = f"type=bind,src={said},dst=/run/said,options=rbind:rw"
        how = ("--detach" if detached else "--rm", *options, "--mount", bind, "--snapshotter", self.snapshotter)
        told = () if detached else ("/bin/sh", "-euc", 'exec "$@" >/run/said/all', "sh")
        self.ctr("run", *how, IMAGE, self.id(name), *told, *command, left=self.id(name) if detached else "")
        return "" if detached else (said / "all").read_text()

    def exec(self, name: str, script: str) -> str:
        """Run a shell script in a container that runs, and return what it has written."""
        this = os.urandom(4).hex()
        told = f"exec >/run/said/{this}; {script}"
        self.ctr("tasks", "exec", "--exec-id", this, self.id(name), "/bin/sh", "-euc", told)
        return (self.place / "said" / name / this).read_text()

    def delete(self, found: str) -> None:
        """End a container and remove it, by its id."""
        self.attempt("tasks", "kill", "--signal", "KILL", found)
        wait_until(lambda: self.attempt("containers", "delete", found).returncode == 0)

    def snapshots(self) -> list[str]:
        """The keys that containerd knows."""
        lines = self.ctr("snapshots", "--snapshotter", self.snapshotter, "list").splitlines()[1:]
        return [line.split()[0] for line in lines]

    def directories(self) -> list[str]:
        """What the store has on disk: directories of snapshots, also of removed ones."""
        drivers = self.daemon.store / "drivers"
        return [str(path) for name in ("snapshots", "trash", "making") for path in drivers.glob(f"*/{name}/*")]

    def close(self) -> None:
        """End what runs and take away what is mounted."""
        for name in self.attempt("containers", "list", "--quiet").stdout.split():
            self.delete(name)
        self.process.terminate()
        self.process.wait(PATIENCE)
        for point in mounts_below(self.place / "state"):
            subprocess.run(["umount", "--lazy", point], check=False)


@contextmanager
def a_containerd(
    place: Path, snapshotter: str, *, cri: bool = False, peers: Path | None = None
) -> Iterator[Containerd]:
    """A containerd and a daemon while the block lasts, with the kubelet's service where `cri`."""
    with ExitStack() as held:
        served = ("--containerd", str(place / "c.sock")) if peers else ()  # 1.6 knows no diff plugins
        daemon = held.enter_context(serving(place, *served))
        containerd = Containerd(place, daemon, snapshotter, cri=cri, peers=peers)
        held.callback(containerd.close)
        yield containerd
