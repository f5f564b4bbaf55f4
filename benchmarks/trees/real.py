"""The tree `real`: what several hundred Debian packages unpack to, spread over layers.

A compiler, numpy, scipy, matplotlib, git, cmake and all they depend on, downloaded with apt into the cache (never
committed) and unpacked in dependency order into 1, 10 or 40 layers, lowest first, as a stack of `RUN apt-get install`
would leave them. What maintainer scripts do and the measured programs need is done by hand: the merged /usr, byte code
beside each module, the alternatives of BLAS and LAPACK, matplotlib's font cache (in the top layer).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree
from benchmarks.trees.synthetic import lists_of

VERSION = "v1"
WANTED = (
    "gcc",
    "g++",
    "libc6-dev",
    "make",
    "cmake",
    "git",
    "python3",
    "python3-numpy",
    "python3-scipy",
    "python3-matplotlib",
    "python3-pandas",
    "bash",
    "dash",
    "coreutils",
    "findutils",
    "tar",
    "gzip",
    "xz-utils",
    "perl",
    "ca-certificates",
    "curl",
    "vim",
    "gdb",
    "strace",
    "rsync",
    "sqlite3",
    "valgrind",
    "autoconf",
    "automake",
    "libtool",
    "pkg-config",
    "libboost-dev",
    "libssl-dev",
    "openssh-client",
)
MERGED = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
ALTERNATIVES = {"libblas.so.3": "blas/libblas.so.3", "liblapack.so.3": "lapack/liblapack.so.3"}
CHROOT_PATH = {"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/tmp", "LANG": "C", "MPLCONFIGDIR": "/var/cache/mpl"}
FONT_CACHE = "import matplotlib.pyplot"


def build(layers: int, cache: Path) -> BuiltTree:
    """Build or find the tree. Its name lists hold every regular file, and one absent name for each."""
    home = cache / "trees" / VERSION / "real"
    flat = home / "1" / "000"
    if not flat.parent.exists():
        spread(packages(cache), 1, home, cache)
    if not (home / str(layers)).exists():
        spread(packages(cache), layers, home, cache)
    lowers = tuple(home / str(layers) / f"{index:03d}" for index in range(layers))
    present = home / "1" / "present"
    return BuiltTree("real", lowers, flat, present, home / "1" / "absent", present.read_bytes().count(b"\0"))


def packages(cache: Path) -> list[Path]:
    """Download what is wanted and its dependencies; return the archives, what others need first."""
    store = cache / "debs"
    listing = store / "order"
    if not listing.exists():
        store.mkdir(parents=True, exist_ok=True)
        (store / "partial").mkdir(exist_ok=True)
        empty = store / "status"
        empty.write_text("")
        settings = (
            f"Dir::State::status={empty}",
            f"Dir::Cache::archives={store}",
            "APT::Sandbox::User=",
            "APT::Get::Download-Only=true",
            "Debug::NoLocking=true",
        )
        options = [word for setting in settings for word in ("-o", setting)]
        call(
            ["apt-get", *options, "-y", "--no-install-recommends", "install", *WANTED],
            "apt-get could not download the packages of the tree `real`",
        )
        listing.write_text("\n".join(path.name for path in ordered(sorted(store.glob("*.deb")))))
    return [store / name for name in listing.read_text().splitlines()]


def ordered(archives: Sequence[Path]) -> list[Path]:
    """Return archives so that each comes after what it depends on, as far as there are no cycles."""
    needs: dict[str, tuple[Path, list[str]]] = {}
    for path in archives:
        fields = ("Package", "Pre-Depends", "Depends")
        said = subprocess.run(["dpkg-deb", "-f", str(path), *fields], capture_output=True, text=True, check=True).stdout
        lines = dict(line.partition(": ")[::2] for line in said.splitlines() if ": " in line)
        wants = f"{lines.get('Pre-Depends', '')},{lines.get('Depends', '')}".split(",")
        needs[lines["Package"]] = (path, [word.split()[0].partition(":")[0] for word in wants if word.split()])
    done: dict[str, Path] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in done or name in visiting or name not in needs:
            return
        visiting.add(name)
        for other in needs[name][1]:
            visit(other)
        done[name] = needs[name][0]

    for name in sorted(needs):
        visit(name)
    return list(done.values())


def spread(archives: Sequence[Path], layers: int, home: Path, cache: Path) -> None:
    """Unpack the archives into `layers` layers of about equally many packages, and finish the result."""
    fresh = home / f".{layers}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    paths = [fresh / f"{index:03d}" for index in range(layers)]
    for path in paths:
        (path / "usr").mkdir(parents=True)
        for name in MERGED:
            (path / "usr" / name).mkdir()
            (path / name).symlink_to(f"usr/{name}")
    try:
        for index, archive in enumerate(archives):
            unpack(archive, paths[layers - 1 - index * layers // len(archives)])
        for path in paths:
            prune(path, lowest=path == paths[-1])
        if layers == 1:
            finish_flat(paths[0])
            lists_of(fresh, paths[0])
        else:
            adopt(home / "1" / "000", paths)
        os.sync()
        fresh.rename(home / str(layers))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def unpack(archive: Path, layer: Path) -> None:
    """Unpack one package; the links of the merged /usr are followed, not replaced."""
    reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    with reader.stdout:
        call(
            ["tar", "-x", "-p", "--keep-directory-symlink", "-C", str(layer)],
            f"cannot unpack {archive.name}",
            stdin=reader.stdout.fileno(),
        )
    if reader.wait():
        raise BenchError(f"cannot read {archive.name}")


def prune(layer: Path, lowest: bool) -> None:
    """Keep the links of the merged /usr in the lowest layer only, and no empty directory made for them above."""
    for name in MERGED:
        if not lowest:
            (layer / name).unlink()
            if not any((layer / "usr" / name).iterdir()):
                (layer / "usr" / name).rmdir()


def finish_flat(root: Path) -> None:
    """Do what maintainer scripts would: alternatives, byte code, caches, the few directories programs expect."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    for name, target in ALTERNATIVES.items():
        if (libraries / target).exists() and not (libraries / name).exists():
            (libraries / name).symlink_to(target)
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    for name in ("tmp", "dev", "proc", "var/cache/mpl"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    null = root / "dev/null"
    if not null.exists():
        os.mknod(null, 0o20666, os.makedev(1, 3))
    chroot(root, ["python3", "-m", "compileall", "-q", "/usr/lib/python3", "/usr/lib/python3.11"], check=False)
    chroot(root, ["python3", "-c", FONT_CACHE])


def chroot(root: Path, argv: Sequence[str], check: bool = True) -> None:
    """Run a program of the tree."""
    done = subprocess.run(
        ["chroot", str(root), *argv], env=CHROOT_PATH, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if check and done.returncode:
        raise BenchError(f"{argv[0]} of the tree `real`: {done.stderr[-300:]}")


def adopt(flat: Path, paths: Sequence[Path]) -> None:
    """Give the layers what only the finished flat tree has: byte code to its module's layer, the rest to the top."""
    for directory, subdirectories, files in os.walk(flat):
        below = Path(directory).relative_to(flat)
        for name in [*files, *(name for name in subdirectories if not Path(directory, name).is_symlink())]:
            if any(os.path.lexists(path / below / name) for path in paths):
                continue
            carry(flat, below / name, home_of(below / name, paths))


def home_of(path: Path, paths: Sequence[Path]) -> Path:
    """Return the layer of a byte code file's module; the top layer for everything else."""
    if path.parent.name == "__pycache__":
        module = path.parent.parent / (path.name.partition(".")[0] + ".py")
        for layer in paths:
            if (layer / module).exists():
                return layer
    return paths[0]


def carry(flat: Path, path: Path, layer: Path) -> None:
    """Copy one file, or make one directory like it, parents with the modes they have in the flat tree."""
    if path.name == "__pycache__":
        return  # made with its first file, in the layers that need it
    for parent in reversed(path.parents[:-1]):
        if not os.path.lexists(layer / parent):
            (layer / parent).mkdir()
            shutil.copystat(flat / parent, layer / parent)
    call(
        ["cp", "-a", "--no-target-directory", str(flat / path), str(layer / path)]
        if not (flat / path).is_dir()
        else ["install", "-d", "-m", oct((flat / path).stat().st_mode & 0o7777)[2:], str(layer / path)],
        f"cannot copy {path}",
    )


def call(argv: Sequence[str], complaint: str, stdin: int = subprocess.DEVNULL) -> None:
    """Run a program of the host; its last words end up in the error."""
    done = subprocess.run(argv, stdin=stdin, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{complaint}: {done.stderr.strip()[-300:]}")
