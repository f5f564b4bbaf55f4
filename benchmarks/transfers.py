"""What does it cost to send an image, to fetch it, to write it out, and to remove it?

    python -m benchmarks.transfers [--rounds N] [--size MB]

An image of one layer that no compressor makes smaller, beside skopeo copy, with Debian's docker-registry on loopback:
a new one for each push, so that nobody finds anything there. All take their turns in each round, each in an empty
directory of the same filesystem; what is needed first is made before the clock starts. The table is that of
benchmarks.images.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.images import NAME, Peer, archive_of, as_installed, show

LAYERFS = [sys.executable, "-m", "layerfs.cli.main"]
CONFIG = """\
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ROOT}}
http: {addr: "127.0.0.1:PORT"}
"""


class RegistryServer:
    """docker-registry, as often as it is wanted."""

    def __init__(self) -> None:
        self.host = ""
        self._program: subprocess.Popen[bytes] | None = None

    def start(self, place: Path) -> None:
        """Run it with its data below a directory."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        place.mkdir()
        (place / "config").write_text(CONFIG.replace("ROOT", str(place)).replace("PORT", str(port)))
        command = ["docker-registry", "serve", str(place / "config")]
        self._program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.host = f"127.0.0.1:{port}"
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return
            if self._program.poll() is not None:
                sys.exit("benchmarks: docker-registry does not run")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._program is not None:
            self._program.terminate()
            self._program.wait()
        self._program = None


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=100, help="of the layer [MB]")
    parser.add_argument("--directory", type=Path, help="on which filesystem (default: TMPDIR)")
    args = parser.parse_args(words)
    for program in ("docker-registry", "skopeo"):
        if shutil.which(program) is None:
            sys.exit(f"benchmarks: {program} is not installed")
    as_installed()
    place = Path(tempfile.mkdtemp(prefix="layerfs-transfers-", dir=args.directory))
    full, new = RegistryServer(), RegistryServer()
    try:
        archive = archive_of(place, [_layer(place, args.size)])
        (place / "layout").mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", place / "layout"], check=True)
        full.start(place / "full")
        _skopeo(f"oci:{place}/layout:{NAME}", f"docker://{full.host}/repo:1")
        peers = [*_network(place / "layout", archive, full, new), *_local(place / "layout", archive)]
        for number in range(args.rounds):
            for peer in peers if number % 2 == 0 else peers[::-1]:
                peer.measure(place / "run")
        show(peers)
    finally:
        full.stop()
        new.stop()
        shutil.rmtree(place)
    return 0


def _layer(place: Path, size: int) -> Path:
    """Make a layer of one file."""
    with (place / "blob").open("wb") as out:
        for _ in range(size):
            out.write(os.urandom(10**6))
    subprocess.run(["tar", "-C", place, "-cf", place / "layer.tar", "blob"], check=True)
    return place / "layer.tar"


def _copy(source: str, target: str) -> list[str]:
    return ["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", source, target]


def _skopeo(source: str, target: str) -> None:
    subprocess.run(_copy(source, target), check=True)


def _importing(archive: Path, *options: str) -> Callable[[Path], None]:
    def before(run: Path) -> None:
        words = ["image", "import", str(archive), "--root", str(run / "store"), *options]
        subprocess.run([*LAYERFS, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return before


def _network(layout: Path, archive: Path, full: RegistryServer, new: RegistryServer) -> list[Peer]:
    """Pushes into a new registry, pulls from a full one."""
    imported = _importing(archive, "--no-unpack")

    def ready(run: Path) -> None:
        imported(run)
        new.start(run / "new")

    def push(run: Path) -> list[str]:
        return [*LAYERFS, "push", "--insecure", NAME, f"{new.host}/repo:1", "--root", str(run / "store")]

    def pull(run: Path) -> list[str]:
        return [*LAYERFS, "pull", "--insecure", "--no-unpack", f"{full.host}/repo:1", "--root", str(run / "store")]

    return [
        Peer("push: layerfs", push, before=ready, after=new.stop),
        Peer(
            "push: skopeo copy",
            lambda run: _copy(f"oci:{layout}:{NAME}", f"docker://{new.host}/repo:1"),
            before=ready,
            after=new.stop,
        ),
        Peer("pull: layerfs", pull),
        Peer("pull: skopeo copy", lambda run: _copy(f"docker://{full.host}/repo:1", f"oci:{run}/out:1")),
    ]


def _local(layout: Path, archive: Path) -> list[Peer]:
    """Exports and removals."""
    ours = [*LAYERFS, "image"]
    return [
        Peer(
            "export: layerfs",
            lambda run: [*ours, "export", NAME, "-o", str(run / "out.tar"), "--root", str(run / "store")],
            before=_importing(archive, "--no-unpack"),
        ),
        Peer("export: skopeo copy", lambda run: _copy(f"oci:{layout}:{NAME}", f"oci-archive:{run}/out.tar:1")),
        Peer(
            "rm: layerfs",
            lambda run: [*ours, "rm", NAME, "--root", str(run / "store")],
            before=_importing(archive, "--snapshotter", "overlay"),
        ),
    ]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
