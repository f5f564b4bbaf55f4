"""`layerfs cp`, and a build in two stages."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from layerfs.snapshots.library import open_store
from tests.cli.images import Shop
from tests.host import require
from tests.oci.image import Made
from tests.oci.tars import END, file

PROGRAM = """\
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
void _start(void) { call(1, 1, (long)"built\\n", 6); call(60, 0, 0, 0); }
"""


def with_a_compiler(place: Path) -> Path:
    """A layer with a compiler and what it is linked to: Debian's tcc, 3 MB, which needs no assembler and no headers."""
    require("tcc", "ldd")
    tcc = shutil.which("tcc") or ""
    linked = subprocess.run(["ldd", tcc], capture_output=True, text=True, check=True).stdout
    files = [tcc, *(word for word in linked.split() if word.startswith("/"))]
    entries = [file(os.fsencode(path[1:]), Path(path).read_bytes(), mode=0o755) for path in files]
    source = file(b"src/hello.c", PROGRAM.encode())
    image = Made([b"".join([*entries, source, END])])
    top = image.finish(annotations={"org.opencontainers.image.ref.name": "localhost/compiler:1"})
    return image.layout(place / "compiler", top)


def test_copy_from_an_image(shop: Shop) -> None:
    name = shop.imported()
    shop.run("snapshot", "prepare", "--snapshotter", "overlay", "work")
    assert shop.run("cp", "--snapshotter", "overlay", f"{name}:/etc", "work:/").returncode == 0
    with open_store(shop.place / "store") as store:
        own = os.fsdecode(store.snapshotter("overlay").layer("work").path)
    assert sorted(os.listdir(own + "/etc")) == ["group", "motd", "passwd"]


@pytest.mark.parametrize("words", [("work", "x:/y"), ("x:/y", "work"), (":/x", "y:/z")])
def test_wrong_places_are_wrong_usage(words: tuple[str, str], shop: Shop) -> None:
    assert shop.run("cp", *words, check=False).returncode == 2


def test_build_in_two_stages(shop: Shop) -> None:
    """A compiler's stage gives one binary to a small image, which holds nothing else of it, and which podman runs."""
    require("podman")
    shop.run("image", "import", "--snapshotter", "overlay", with_a_compiler(shop.place))
    with open_store(shop.place / "store") as store:
        base = next(info.name for info in store.snapshotter("overlay").walk())
    shop.run("snapshot", "prepare", "--snapshotter", "overlay", "compile", base)
    merged = shop.place / "merged"
    merged.mkdir()
    shop.run("snapshot", "mount", "--snapshotter", "overlay", "compile", merged)
    try:
        words = ["/usr/bin/tcc", "-nostdlib", "-static", "-o", "/src/hello", "/src/hello.c"]
        subprocess.run(["chroot", merged, *words], check=True)
    finally:
        subprocess.run(["umount", merged], check=True)
    shop.run("snapshot", "prepare", "--snapshotter", "overlay", "final")
    shop.run("cp", "--snapshotter", "overlay", "compile:/src/hello", "final:/hello")
    shop.run("image", "commit", "--snapshotter", "overlay", "final", "localhost/built:1", "-c", 'Cmd=["/hello"]')
    assert shop.run("image", "run", "localhost/built:1").stdout == "built\n"
    shop.run("image", "export", "localhost/built:1", "-o", shop.place / "out")
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{shop.place}/out", f"dir:{shop.place}/dir"], check=True)
    layers = [path for path in (shop.place / "dir").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b"]
    listed = subprocess.run(["tar", "-tzf", layers[0]], capture_output=True, text=True, check=True).stdout.split()
    assert (len(layers), listed) == (1, ["hello"])
    podman = ["podman", "--root", str(shop.place / "p"), "--runroot", str(shop.place / "r"), "--storage-driver", "vfs"]
    podman += ["--cgroup-manager=cgroupfs", "--runtime=runc"]
    subprocess.run([*podman, "load", "-q", "-i", shop.place / "out"], check=True, capture_output=True)
    limits = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
    words = ["run", "--rm", *limits, "localhost/built:1"]
    done = subprocess.run([*podman, *words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("built\n", 0), done.stderr
