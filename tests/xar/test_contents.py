"""What goes into a package, and the target among it."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from layerfs.pysquashfs import SquashfsImage, write_image
from layerfs.xar.contents import gather
from layerfs.xar.package import opened
from tests.xar.application import application, make


def test_several_inputs_stand_in_the_root_by_their_names(scratch: Path) -> None:
    tree = application(scratch)
    (scratch / "more").mkdir()
    (scratch / "more/run").write_text("#!/bin/sh\n")
    (scratch / "more/run").chmod(0o755)
    (scratch / "more/link").symlink_to("run")
    os.mkfifo(scratch / "more/fifo")
    inputs: list[Path | str] = [
        tree / "lib",
        scratch / "more/run",
        f"{tree}/bin/",
        scratch / "more/link",
        scratch / "more/fifo",
    ]
    built, _ = make(tree, inputs=tuple(map(os.fsencode, inputs)), target="link")
    with opened(os.fsencode(scratch / "app.xar")) as package:
        paths = [path.decode() for path, _ in package.image.walk()]
    assert [path for path in paths if "/" not in path] == ["", "bin", "fifo", "lib", "link", "run"]
    assert {"bin/hard", "lib/sub/text"} <= set(paths)
    assert built.header.target == "link"


def test_one_file_is_put_into_the_root(scratch: Path) -> None:
    tree = application(scratch)
    make(tree, inputs=(os.fsencode(tree / "bin/app"),), target="app")
    with opened(os.fsencode(scratch / "app.xar")) as package:
        assert [path for path, _ in package.image.walk()] == [b"", b"app"]


@pytest.mark.parametrize(
    ("target", "stored"),
    [("bin/app", "bin/app"), ("./bin//app", "bin/app"), ("bin/also", "bin/also"), ("bin/hard", "bin/hard")],
)
def test_a_target_may_be_a_link_and_is_stored_without_detours(target: str, stored: str, scratch: Path) -> None:
    assert make(application(scratch), target=target)[0].header.target == stored


def test_names_that_clash_are_refused(scratch: Path) -> None:
    tree = application(scratch)
    inputs = (os.fsencode(tree / "lib"), os.fsencode(scratch / "tree/bin/../lib"))
    with pytest.raises(InvalidArgument, match="lib are both called lib"):
        make(tree, inputs=inputs)


def test_what_only_its_owner_may_use_is_named(scratch: Path) -> None:
    tree = application(scratch)
    (tree / "lib/data").chmod(0o600)
    (tree / "lib/sub").chmod(0o750)
    assert make(tree)[0].closed == (b"lib/data", b"lib/sub")
    assert make(tree, keep_owners=True)[0].closed == ()


def test_attributes_that_squashfs_cannot_hold_are_named(scratch: Path) -> None:
    tree = application(scratch)
    acl = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000400ffffffff")
    os.setxattr(tree / "lib/data", "system.posix_acl_access", acl)
    assert make(tree)[0].dropped == ((b"lib/data", b"system.posix_acl_access"),)
    built, _ = make(tree, inputs=(os.fsencode(tree / "lib/data"),))
    assert built.dropped == ((b"data", b"system.posix_acl_access"),)


def test_inputs_that_are_exchanged_for_symlinks_are_not_gone_through(scratch: Path) -> None:
    """Root packs what another user owns: neither a directory among several inputs, nor the one a file lies in."""
    for top in ("own", "secret"):
        (scratch / top / "tree/inner").mkdir(parents=True)
        (scratch / top / "tree/last").mkdir()
        (scratch / top / "tree/inner/file").write_text(top)
        (scratch / top / "single").write_text(top)
    contents = gather([os.fsencode(scratch / "own" / name) for name in ("tree", "single")])
    (scratch / "own").rename(scratch / "moved")
    (scratch / "own").symlink_to("secret")
    (scratch / "moved/tree/inner").rename(scratch / "moved/inner")
    (scratch / "moved/tree/inner").symlink_to(scratch / "secret/tree/inner")
    write_image(scratch / "image", contents.entries, on_changed=lambda *what: contents.changed.append(what))
    assert contents.changed == [(b"tree/inner/file", "was gone when it was to be read: it is empty")]
    with SquashfsImage(scratch / "image") as image:
        single = image.lookup(b"single")
        assert image.read(single.ref, 0, 9) == b"own"
        assert image.lookup(b"tree/inner/file").size == 0
