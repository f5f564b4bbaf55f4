"""Who owns what in a tree."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerfs.lowers.kinds import open_tree
from layerfs.oci.view import RawView
from layerfs.plan.tree import UNOWNED, Claims, PathResolver, content, make_tree, walk
from tests.host import require
from tests.plan.trees import make_house


@contextmanager
def view(path: Path) -> Iterator[RawView]:
    with RawView(open_tree(os.fsencode(path), 0)) as found:
        yield found


def test_the_deepest_claim_decides_and_the_rest_is_nobodys(scratch: Path) -> None:
    make_house(scratch)
    with view(scratch / "src") as found:
        tree = make_tree(found, Claims({b"lib/one": "x"}, {b"lib": "lib", b"lib/deep/er": "deep"}))
    assert tree.owners[b"lib/deep/er/none"] == "deep"
    assert tree.owners[b"lib/one"] == tree.owners[b"lib/deep/two"] == "lib"  # by the name that is first
    assert tree.owners[b"etc/config"] == UNOWNED
    assert tree.directories[0] == b""
    assert b"etc/empty" in tree.directories
    assert tree.sizes["lib"] == (70_000, 2)
    assert tree.sizes["deep"] == (0, 1)


def test_without_collecting_only_the_way_to_what_is_claimed_is_taken(scratch: Path) -> None:
    make_house(scratch)
    with view(scratch / "src") as found:
        tree = make_tree(found, Claims(below={b"lib/deep/er": "deep"}), collect=False)
    assert tree.owners == {b"lib/deep/er/none": "deep"}
    assert tree.directories == (b"", b"lib", b"lib/deep", b"lib/deep/er")


def test_other_filesystems_are_not_walked(scratch: Path) -> None:
    with view(Path("/")) as found:
        assert not [seen for seen in walk_a_little(found) if seen.startswith(b"proc/")]


def walk_a_little(found: RawView) -> list[bytes]:
    names: list[bytes] = []
    for seen in walk(found):
        names.append(seen.member.path)
        if seen.member.path > b"root":
            break
    return names


def test_a_live_root_has_sockets_and_devices_that_hide(scratch: Path) -> None:
    """Planning leaves out the first; packing refuses the second."""
    require("root")
    os.mknod(scratch / "hole", stat.S_IFCHR, 0)
    with socket.socket(socket.AF_UNIX) as made, view(scratch) as found:
        made.bind(str(scratch / "socket"))
        assert make_tree(found, Claims()).owners == {b"hole": UNOWNED}


def test_symlinks_among_directories_are_followed_within_the_tree(scratch: Path) -> None:
    (scratch / "usr/lib").mkdir(parents=True)
    (scratch / "lib").symlink_to("usr/lib")
    (scratch / "abs").symlink_to("/lib")
    (scratch / "out").symlink_to("../../..")
    (scratch / "round").symlink_to("round")
    with view(scratch) as found:
        paths = PathResolver(found)
        assert paths.real(b"/lib/x") == b"usr/lib/x"
        assert paths.real(b"/abs/x/y") == b"usr/lib/x/y"
        assert paths.real(b"/out/etc/passwd") == b"etc/passwd"
        assert paths.real(b"/lib") == b"lib"
        assert paths.real(b"/round/x").endswith(b"/x")


def test_content_is_bounded_and_of_regular_files(scratch: Path) -> None:
    (scratch / "file").write_bytes(b"0123456789")
    os.mkfifo(scratch / "pipe")
    (scratch / "link").symlink_to("file")
    with view(scratch) as found:
        assert content(found, b"file", 4) == b"0123"
        assert content(found, b"pipe", 4) is content(found, b"link", 4) is content(found, b"none", 4) is None
