"""A root for shared mounts of the test's own, and XARs that are mounted there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.sys.ids import outside_id
from layerfs.xarexec.xarfile import examine, mountpoint_of
from tests.host import require
from tests.xars import make_xar

HERE = b"uid-%d" % outside_id(os.geteuid())


@pytest.fixture(autouse=True)
def needs(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    require("mksquashfs")
    monkeypatch.setenv("LAYERFS_CACHE", str(scratch / "no cache"))
    for name in ("LAYERFS_XAR_PATH", "XAR_MOUNT_SEED", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(scratch: Path) -> Path:
    """A directory as /dev/shm is."""
    path = scratch / "root"
    path.mkdir()
    path.chmod(0o1777)
    return path


def home_in(root: Path) -> Path:
    return root / os.fsdecode(HERE)


@pytest.fixture
def xar(scratch: Path, root: Path) -> Callable[..., Path]:
    def make(name: str, text: str = "", **words: object) -> Path:
        (scratch / name).parent.mkdir(exist_ok=True)
        return make_xar(scratch / name, {"text": text}, root=root, **words)  # type: ignore[arg-type]

    return make


def place_of(path: Path) -> Path:
    return Path(os.fsdecode(mountpoint_of(examine(bytes(path)))))
