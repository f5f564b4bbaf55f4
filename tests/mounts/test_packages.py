"""What the XARs of a stack depend on is put into it; what is none is left alone."""

import os
from pathlib import Path

import pytest

from layerfs.model import Stack
from layerfs.mounts.packages import complete
from tests.host import require
from tests.xars import make_xar


@pytest.fixture(autouse=True)
def alone(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFS_CACHE", str(scratch / "no cache"))
    monkeypatch.delenv("LAYERFS_XAR_PATH", raising=False)


def test_directories_and_files_that_are_no_xar_are_left_alone(scratch: Path) -> None:
    (scratch / "directory").mkdir()
    (scratch / "text").write_text("no image")
    (scratch / "bare").write_bytes(b"hsqs" + bytes(92))
    os.mkfifo(scratch / "fifo")  # is not waited for
    stack = Stack(tuple(os.fsencode(scratch / name) for name in ("directory", "text", "bare", "fifo", "absent")))
    found = complete(stack)
    assert (found.stack, found.resolution) == (stack, None)
    assert list(found.warnings()) == []


def test_what_a_xar_depends_on_comes_below_it(scratch: Path) -> None:
    require("mksquashfs")
    lib = make_xar(scratch / "lib.xar", {"lib": "one", "both": "of lib"})
    app = make_xar(scratch / "app.xar", {"app": "two", "both": "of app"}, depends=("lib.xar",), uuid="beefbeef")
    (scratch / "directory").mkdir()
    stack = Stack((os.fsencode(app), os.fsencode(scratch / "directory")))
    found = complete(stack)
    assert [os.path.basename(lower) for lower in found.stack.lowers] == [b"app.xar", b"lib.xar", b"directory"]
    assert list(found.warnings()) == ["/both of app.xar hides that of lib.xar"]
    assert lib.exists()
