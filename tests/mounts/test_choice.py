"""Which driver `auto` takes: the kernel where it accepts the layers, without a trace of the try."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.model import Driver, Stack
from layerfs.mounts import choice
from layerfs.mounts.choice import choose
from layerfs.union.options import UnionOptions
from tests.conftest import mounts_below
from tests.mounts.test_kernel import REFUSED, Place
from tests.mounts.test_kernel import place as place


def test_auto_takes_the_kernel_and_leaves_no_trace_of_the_try(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", os.fsdecode(place.path("other")))
    for stack in (place.stack, Stack(place.lowers), Stack(place.lowers[:1])):
        for options in (UnionOptions(), UnionOptions(volatile=True)):
            assert choose(Driver.AUTO, stack, options) == (Driver.KERNEL, "kernel overlayfs accepts these layers here")
    assert (os.listdir(place.path("upper")), os.listdir(place.path("work"))) == ([], [])
    assert mounts_below(place.root) == []
    assert place.names("other") == []


def test_driver_that_was_asked_for_is_not_questioned(place: Place) -> None:
    for driver in (Driver.KERNEL, Driver.FUSE):
        assert choose(driver, place.stack, REFUSED["noacl"]) == (driver, f"driver={driver.value} was asked for")


def test_auto_takes_fuse_where_the_kernel_refuses_these_layers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(choice, "layer_syntax", refuse)
    assert choose(Driver.AUTO, place.stack, UnionOptions()) == (Driver.FUSE, "this kernel has no overlayfs")


def test_the_try_is_made_in_the_directory_that_was_made(place: Place) -> None:
    """Whoever owns the work directory may give its name to a symlink: it is reached by a descriptor."""
    with choice._scratch(place.path("work")) as scratch:
        assert scratch.startswith(b"/proc/self/fd/")
        (name,) = os.listdir(place.path("work"))
        os.rename(place.path("work") + b"/" + name, place.path("work") + b"/moved")
        os.symlink(place.path("bottom"), place.path("work") + b"/" + name)
        assert sorted(os.listdir(scratch)) == [b"place", b"upper", b"work"]
    assert os.listdir(place.path("work")) == [b"moved"]
    assert "directory" in place.names("bottom")


def test_a_directory_that_was_exchanged_is_not_used(scratch: Path) -> None:
    (scratch / "name").mkdir(mode=0o755)
    base = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(PermissionError, match="exchanged"), choice._opened_ours(base, b"name"):
            pass
    finally:
        os.close(base)
