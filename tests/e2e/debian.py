"""A Debian base system from the host's package sources, made once and kept in CACHE as a directory and as a tar."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .people import Kind
from .stage import Stage, Union

CACHE = Path("/var/tmp/layerfs-tests")
APT = Path("/etc/apt")
INSTALLED = ("less", "file")  # their packages wait in the base's apt cache, so that only making it needs the network
TAKEN_OVER = ("Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::http::Proxy", "Acquire::https::Proxy")
OPTIONS = (
    "--mode=root",
    "--variant=apt",
    "--skip=cleanup/apt/lists",
    "--skip=cleanup/apt/cache",
    "--aptopt=Acquire::Languages none",
    "--aptopt=APT::Sandbox::User root",  # for hosts that hand in a keyring only root may read
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    f"--customize-hook=chroot $1 apt-get install -y --download-only --no-install-recommends {' '.join(INSTALLED)}",
)
MAKE_TIMEOUT = 280.0  # seconds, of the 300 that one test has


def sources(codename: str) -> list[Path]:
    """Find the host's package sources for its own release; other vendors' need keys that a new system lacks."""
    found = [*APT.glob("sources.list"), *APT.glob("sources.list.d/*.list"), *APT.glob("sources.list.d/*.sources")]
    return [path for path in found if codename in path.read_text().split() and "main" in path.read_text().split()]


def setting(name: str) -> str:
    """Read one of the host's apt settings as the line of a configuration file, empty when unset."""
    return subprocess.run(["apt-config", "dump", name], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def _alone() -> Iterator[None]:
    """Two sessions do not make the base at once."""
    CACHE.mkdir(mode=0o755, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base() -> Path:
    """Return the base system's directory, which nobody may change; `.tar` beside it holds the same."""
    codename = subprocess.run(
        ["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"], check=True, capture_output=True, text=True
    ).stdout.strip()
    path = CACHE / codename
    with _alone():
        if not path.with_suffix(".tar").exists():
            shutil.rmtree(path, ignore_errors=True)
            _make(codename, path)
    return path


def _make(codename: str, path: Path) -> None:
    settings = [f"--aptopt={line}" for name in TAKEN_OVER for line in setting(name).splitlines()]
    making = path.with_suffix(".tar.new")
    # In a namespace of its own: mmdebstrap has been seen to leave its /proc mounted in the host's.
    command = ["unshare", "--mount", "--propagation=private", "mmdebstrap", *OPTIONS, *settings]
    command += [codename, str(path), *map(str, sources(codename))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    # Device nodes cannot be made in a user namespace; the host's /dev is bound there.
    subprocess.run(["tar", "-C", path, "--exclude=./dev/*", "-cpf", making, "."], check=True)
    os.replace(making, path.with_suffix(".tar"))


def mount(stage: Stage) -> Union:
    """Mount the base system on a stage: in a user namespace a copy with owners of that namespace."""
    layer = base()
    if stage.kind is Kind.USERNS:
        tar, layer = layer.with_suffix(".tar"), stage.directory("base")
        stage.run("tar", "-C", layer, "-xpf", tar)
    return stage.mount(layer)


def chroot(stage: Stage, union: Union, script: str) -> str:
    """Run a shell script in the mounted system, with the host's /dev and /proc for as long as it runs."""
    inner = 'for d in dev proc; do mount --rbind "/$d" "$1/$d"; done; exec chroot "$1" /bin/sh -euc "$2"'
    words = ("unshare", "--mount", "--propagation=private", "/bin/sh", "-euc", inner, "sh", union.merged, script)
    return stage.run(*words, cwd=Path("/"), env={"DEBIAN_FRONTEND": "noninteractive", **_proxies()})


def _proxies() -> dict[str, str]:
    return {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
