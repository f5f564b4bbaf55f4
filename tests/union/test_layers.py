"""A directory of the host as a tree: regular files alone are opened, and a redirect counts where it is believed."""

import os
import stat
from pathlib import Path

import pytest

from layerfs.union.layers import DirTree
from layerfs.union.mark_trust import ALL, MarkTrust


@pytest.fixture
def place(scratch: Path) -> Path:
    (scratch / "d").mkdir()
    (scratch / "f").write_text("x")
    os.mkfifo(scratch / "p")
    (scratch / "s").symlink_to("f")
    return scratch


@pytest.mark.parametrize("name", [b"p", b"s", b"d"])
def test_nothing_but_a_regular_file_is_opened(place: Path, name: bytes) -> None:
    tree = DirTree(os.fsencode(place), 1)
    with pytest.raises(OSError, match="Stale"):
        tree.open(tree.root(), name, os.O_RDONLY)
    tree.close()


def test_what_is_not_expected_is_neither_opened_nor_pinned(place: Path) -> None:
    tree = DirTree(os.fsencode(place), 1)
    with pytest.raises(OSError, match="Stale"):
        tree.open(tree.root(), b"f", os.O_RDONLY, lambda st: st.st_size > 1)
    with pytest.raises(OSError, match="Stale"):
        tree.pin(tree.root(), b"s", lambda st: stat.S_ISREG(st.st_mode))
    os.close(tree.open(tree.root(), b"f", os.O_RDONLY, lambda st: st.st_size == 1))
    os.close(tree.pin(tree.root(), b"s", lambda st: stat.S_ISLNK(st.st_mode)))
    tree.close()


def test_redirect_counts_where_it_is_believed(place: Path) -> None:
    os.setxattr(place / "d", "user.overlay.redirect", b"/x")
    tree = DirTree(os.fsencode(place), 1)
    handle = tree.open_dir(tree.root(), b"d")
    for trust, expected in (
        (ALL, b"/x"),
        (MarkTrust(("trusted.overlay.",)), None),
        (MarkTrust(("user.overlay.",), os.geteuid()), b"/x"),
        (MarkTrust(("user.overlay.",), os.geteuid() + 1), None),
        (MarkTrust(()), None),
    ):
        tree.mark_trust = trust
        assert tree.marks(handle).redirect == expected
    (place / "d").chmod(0o777)  # anybody may have written it
    tree.mark_trust = MarkTrust(("user.overlay.",), os.geteuid())
    assert tree.marks(handle).redirect is None
    tree.close_dir(handle)
    tree.close()
