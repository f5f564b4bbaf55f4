"""Stacks in the words of kernel overlayfs; mounts of them are in test_mounts.py."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.model import Stack
from layerfs.spec.values import unescape
from layerfs.sys.overlay import DATA_LIMIT, escape, joined, mount_overlay, shows_nested, try_overlay
from tests.host import require


@pytest.mark.parametrize("path", [b"/a", b"/a,b:c", b"/\\", b"/a\\:b", b"/\xff,"])
def test_an_escaped_path_is_read_as_it_was(path: bytes) -> None:
    assert unescape(escape(path)) == path


def test_a_stack_that_does_not_fit_into_a_page_is_refused_with_the_next_step() -> None:
    with pytest.raises(Unsupported, match=f"mount\\(2\\) takes {DATA_LIMIT}"):
        joined(Stack((b"/" + b"l" * 200,) * 30), ())


def test_nested_marks_are_shown_as_a_real_overlay_shows_them(scratch: Path) -> None:
    require("root", "kernel overlay")
    lower, point = scratch / "lower", scratch / "m"
    for place in (lower, point):
        place.mkdir()
    os.setxattr(lower, "trusted.overlay.overlay.layerfs", b"y")
    mount_overlay(Stack((bytes(lower),)), bytes(point))
    shown = "trusted.overlay.layerfs" in os.listxattr(point)
    subprocess.run(["umount", point], check=True)
    assert shows_nested(b"trusted.overlay.") is shown


def test_a_try_does_not_wait_for_the_disk_and_older_kernels_are_tried_without(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overlay that is not volatile syncs all of its upper's filesystem when it goes."""
    require("root", "kernel overlay")
    for name in ("lower", "upper", "work"):
        (scratch / name).mkdir()
    stack = Stack(*((os.fsencode(scratch / "lower"),), os.fsencode(scratch / "upper"), os.fsencode(scratch / "work")))
    try_overlay(stack, os.fsencode(scratch), ())
    assert (scratch / "work/work/incompat/volatile").is_dir()
    tried = []

    @contextmanager
    def older(stack: Stack, place: bytes, options: tuple[str, ...]) -> Iterator[int]:
        tried.append(options)
        if "volatile" in options:
            raise OSError(errno.EINVAL, "Invalid argument")
        yield -1

    monkeypatch.setattr("layerfs.sys.overlay.detached_overlay", older)
    try_overlay(stack, os.fsencode(scratch), ("index=off",))
    assert tried == [("index=off", "volatile"), ("index=off",)]
