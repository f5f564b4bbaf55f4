"""XARs that we build: both reference readers take them, the same input gives the same bytes, mistakes are named."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from layerfs.errors import InvalidArgument, NotFound
from layerfs.pysquashfs import Compressor, SquashfsError, SquashfsImage
from layerfs.xar.builder import Recipe, build
from layerfs.xar.extract import ExtractOptions, extract
from layerfs.xar.header import Header
from layerfs.xar.package import opened
from layerfs.xar.verify import verify
from tests.e2e.manifest import manifest
from tests.host import require
from tests.waiting import PATIENCE
from tests.xar.application import EPOCH, application, make, recipe
from tests.xar.readers import accepting


@pytest.mark.parametrize("compressor", [*map(Compressor, (1, 4, 5, 6)), None])
def test_both_readers_take_what_is_built_and_it_holds_the_tree(compressor: Compressor | None, scratch: Path) -> None:
    tree = application(scratch)
    built, data = make(tree, target="bin/app", depends=(b"b.xar",), compressor=compressor, keep_owners=True)
    digest = xxhash.xxh3_128_hexdigest(data[4096:])
    assert built.header == Header(4096, digest[:8], str(EPOCH), ("b.xar",), "bin/app")
    assert (built.size, built.digest, built.entries) == (len(data), digest, 13)
    read = accepting(data)
    assert set(read) == {"xarexec_fuse", "XarParser"}
    for values in read.values():
        expected = {"OFFSET": "4096", "UUID": digest[:8], "VERSION": str(EPOCH), "DEPENDENCIES": "b.xar"}
        assert values == expected | {"XAREXEC_TARGET": "bin/app"}
    with opened(os.fsencode(scratch / "app.xar")) as package:
        extract(package.image, os.fsencode(scratch / "out"), ExtractOptions())
    assert manifest(str(scratch / "out")) == manifest(str(tree))
    assert verify(os.fsencode(scratch / "app.xar")).flaws == []


def test_the_image_is_what_the_reference_builder_asks_mksquashfs_for(scratch: Path) -> None:
    make(application(scratch))
    command = ["unsquashfs", "-s", "-o", "4096"]
    said = subprocess.run(
        [*command, scratch / "app.xar"], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout
    for line in ("Compression zstd", "Block size 262144", "Inodes are uncompressed", "Data is compressed"):
        assert line in said
    with SquashfsImage(scratch / "app.xar", offset=4096) as image:
        assert {(inode.uid, inode.gid) for _, inode in image.walk()} == {(65534, 65534)}
        assert image.root.mode == stat.S_IFDIR | 0o755
        assert image.superblock.modification_time == EPOCH


def test_the_file_is_a_program_whatever_the_umask(scratch: Path) -> None:
    tree = application(scratch)
    old = os.umask(0o077)
    try:
        make(tree)
    finally:
        os.umask(old)
    assert stat.S_IMODE((scratch / "app.xar").stat().st_mode) == 0o755


def test_the_same_input_gives_the_same_bytes_wherever_it_lies_and_whoever_owns_it(scratch: Path) -> None:
    tree = application(scratch)
    _, first = make(tree, target="bin/app")
    other = scratch / "elsewhere/x"
    other.parent.mkdir()
    subprocess.run(["cp", "-a", tree, other], check=True, timeout=PATIENCE)
    if os.geteuid() == 0:
        os.chown(other / "lib/data", 1000, 1000)
    assert make(other, target="bin/app")[1] == first


@pytest.mark.parametrize("change", ["content", "mode", "name", "time"])
def test_another_tree_has_another_uuid(change: str, scratch: Path) -> None:
    tree = application(scratch)
    before, _ = make(tree)
    text = tree / "lib/sub/text"
    if change == "content":
        text.write_text("tent\n" * 1000)
        os.utime(text, (0, EPOCH))
    elif change == "mode":
        text.chmod(0o755)
    elif change == "name":
        text.rename(tree / "lib/sub/test")
        os.utime(tree / "lib/sub", (0, EPOCH))
    else:
        os.utime(text, (0, EPOCH - 1))
    after, _ = make(tree)
    assert (after.header.uuid == before.header.uuid, after.header.version) == (False, str(EPOCH))


def test_version_and_uuid_may_be_given_and_the_epoch_bounds_times(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = application(scratch)
    given = make(tree, version=7, uuid="ABCDEF01")[0].header
    assert (given.version, given.uuid) == ("7", "ABCDEF01")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1400000000")
    assert make(tree)[0].header.version == "1400000000"
    with SquashfsImage(scratch / "app.xar", offset=4096) as image:
        assert {inode.mtime for _, inode in image.walk()} == {1_400_000_000}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(SquashfsError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        make(tree)


MISTAKES: dict[str, tuple[dict[str, object], str]] = {
    "an absent target": ({"target": "app"}, "the target app is not in the package (hint: there is bin/app)"),
    "a target in a file": ({"target": "bin/app/x"}, "the target bin/app/x is not in the package"),
    "a directory": ({"target": "bin"}, "the target bin is not a file"),
    "the root": ({"target": "."}, "the target . is not a file"),
    "no program": ({"target": "lib/data"}, "the target lib/data is not executable (hint: chmod +x it: lib/data)"),
    "an absolute target": ({"target": "/bin/app"}, "the target /bin/app is absolute (hint: name it as seen from the"),
    "a link to the host": ({"target": "bin/out"}, "the target bin/out leads out of the package, to /bin/sh"),
    "a link above": ({"target": "bin/up"}, "the target bin/up leads out of the package"),
    "a link in circles": ({"target": "bin/round"}, "the target bin/round goes round in circles"),
    "a dangling link": ({"target": "bin/gone"}, "the target bin/gone is not in the package"),
    "a target aside": ({"target": "lib/../bin/app"}, "expected XAREXEC_TARGET to be a path in the image"),
    "a quote": ({"mount_root": '/a"b'}, "expected a value of MOUNT_ROOT without quotes"),
    "a relative root": ({"mount_root": "mnt"}, "expected MOUNT_ROOT to be an absolute path"),
    "a bad uuid": ({"uuid": "12"}, "expected UUID to be 8 hex digits"),
    "a space": ({"depends": (b"a b.xar",)}, "'a b.xar' cannot be a dependency: DEPENDENCIES hold base names without"),
    "a directory's name": ({"depends": (b"libs/",)}, "'libs/' cannot be a dependency"),
    "itself": ({"depends": (b"app.xar",)}, "app.xar would depend on itself"),
    "an absent path": ({"depends": (b"./no.xar",)}, "no such dependency: ./no.xar"),
    "an absolute path": ({"depends": (b"b.xar", b"/proc/no.xar")}, "no such dependency: /proc/no.xar"),
    "too many": ({"depends": tuple(b"%0100d" % number for number in range(99))}, "the header would have 10"),
    "an odd block": ({"block_size": 5000}, "a block of 5000 bytes: not a power of two from 4096 to 1048576"),
    "an odd level": ({"level": 99}, "zstd has levels 1 to 22, not 99"),
}


@pytest.mark.parametrize(("changes", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_leaves_no_trace(changes: dict[str, object], said: str, scratch: Path) -> None:
    tree = application(scratch)
    (scratch / "app.xar").write_text("old")
    with pytest.raises((InvalidArgument, NotFound, SquashfsError)) as caught:
        make(tree, **changes)
    assert said in str(caught.value)
    assert sorted(os.listdir(scratch)) == ["app.xar", "tree"]
    assert (scratch / "app.xar").read_text() == "old"


@pytest.mark.parametrize("output", ["/dev/full", "/dev/fd/{}", "sub"])
def test_what_is_no_file_is_not_written_to(output: str, scratch: Path) -> None:
    (scratch / "sub").mkdir()
    reader, writer = os.pipe()
    path = scratch / output.format(writer)
    with pytest.raises(InvalidArgument, match=f"the output {path} is there and is not a regular file"):
        make(application(scratch), output=os.fsencode(path))
    os.close(reader)
    os.close(writer)


def test_dependencies_are_base_names_in_order_and_each_once(scratch: Path) -> None:
    tree = application(scratch)
    path = scratch / "libs/z.xar"
    path.parent.mkdir()
    path.touch()
    names = (os.fsencode(path), b"a.xar", os.fsencode(path), b"a.xar")
    assert make(tree, depends=names)[0].header.dependencies == ("z.xar", "a.xar")
    with pytest.raises(InvalidArgument, match=r"z\.xar and z\.xar have one base name"):
        make(tree, depends=(os.fsencode(path), b"z.xar"))


def test_many_dependencies_take_a_longer_header(scratch: Path) -> None:
    depends = tuple(b"%0100d.xar" % number for number in range(50))
    built, data = make(application(scratch), target="bin/app", depends=depends)
    assert (built.header.offset, len(built.header.dependencies)) == (8192, 50)
    assert set(accepting(data)) == {"XarParser"}
    assert verify(os.fsencode(scratch / "app.xar")).flaws == []


@pytest.mark.parametrize("output", ["tree/app.xar", "tree/lib/data", "tree/lib/../new", "way/new"])
def test_an_output_in_the_input_is_refused(output: str, scratch: Path) -> None:
    tree = application(scratch)
    (scratch / "way").symlink_to("tree/lib")
    with pytest.raises(InvalidArgument, match="lies in the input"):
        make(tree, output=os.fsencode(scratch / output))


def test_only_a_regular_file_is_replaced_also_behind_a_symlink(scratch: Path) -> None:
    tree = application(scratch)
    os.mkfifo(scratch / "fifo")
    for name in ("fifo", "tree/.."):
        with pytest.raises(InvalidArgument, match="is there and is not a regular file"):
            make(tree, output=os.fsencode(scratch / name))
    (scratch / "real").write_text("old")
    (scratch / "way").symlink_to("real")
    make(tree, output=os.fsencode(scratch / "way"))
    assert (scratch / "way").is_symlink()
    assert (scratch / "real").read_bytes().startswith(b"#!/usr/bin/env xarexec_fuse\n")
    with pytest.raises(NotFound, match=r"no such directory: .*/nowhere"):
        make(tree, output=os.fsencode(scratch / "nowhere/app.xar"))


def test_a_build_that_is_broken_off_leaves_the_old_file(scratch: Path) -> None:
    tree = application(scratch)
    (scratch / "app.xar").write_text("old")

    def break_off(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe(tree), break_off)
    assert sorted(os.listdir(scratch)) == ["app.xar", "tree"]
    assert (scratch / "app.xar").read_text() == "old"


def test_a_build_that_is_killed_leaves_no_trace(scratch: Path) -> None:
    tree = application(scratch)
    program = "import os, signal, sys; from layerfs.xar.builder import Recipe, build; "
    program += "build(Recipe((b'tree',), b'app.xar'), lambda done, total: os.kill(os.getpid(), signal.SIGKILL))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tree.parent, check=False, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(scratch) == ["tree"]


@pytest.mark.mounts
def test_a_full_disk_is_named_by_the_output(scratch: Path) -> None:
    require("root")
    tree = application(scratch)
    (scratch / "small").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs"]
    subprocess.run([*words, scratch / "small"], check=True, timeout=PATIENCE)
    output = os.fsencode(scratch / "small/app.xar")
    with pytest.raises(OSError) as caught:
        make(tree, output=output)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, output)
    assert os.listdir(scratch / "small") == []


def test_progress_ends_at_the_total(scratch: Path) -> None:
    tree = application(scratch)
    told: list[tuple[int, int]] = []
    build(recipe(tree), lambda done, total: told.append((done, total)))
    assert told[-1] == (605_021, 605_021)
    assert sorted(told) == told


def test_a_file_that_changes_while_it_is_packed_is_told(scratch: Path) -> None:
    (scratch / "in").mkdir()
    (scratch / "in/log").write_bytes(bytes(1000) * 5000)

    def grow(done: int, total: int) -> None:
        with open(scratch / "in/log", "ab") as log:
            log.write(b"more")

    built = build(Recipe((os.fsencode(scratch / "in"),), os.fsencode(scratch / "out.xar")), grow)
    assert built.changed == ((b"log", "changed while it was read"),)
    with opened(os.fsencode(scratch / "out.xar")) as package:
        assert package.image.lookup(b"log").size == 5_000_000
