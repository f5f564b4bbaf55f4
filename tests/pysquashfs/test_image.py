"""Opening, closing, sharing between threads and processes, and what errors say."""

import errno
import gc
import os
import pickle
import re
import stat
import subprocess
import sys
import sysconfig
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerfs.pysquashfs import SquashfsError, SquashfsImage
from tests.host import PROJECT, require
from tests.pysquashfs.images import Tree, make_image, prose, seen_in_image
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image: directories, text of several blocks, a link."""
    require("mksquashfs")
    place = tmp_path_factory.mktemp("small")
    for number in range(6):
        (place / f"tree/d{number}").mkdir(parents=True)
        for name in range(40):
            (place / f"tree/d{number}/f{name}").write_bytes(prose(name * 500, name))
    (place / "tree/text").write_bytes(prose(1_000_000))
    (place / "tree/link").symlink_to("text")
    return make_image("mksquashfs", place / "tree", place / "image", "-comp", "zstd", "-b", "32K")


@pytest.fixture(scope="module")
def content(packed: Path) -> Tree:
    with SquashfsImage(packed) as image:
        return seen_in_image(image)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_paths_of_every_kind_open_it(packed: Path, content: Tree) -> None:
    for source in (packed, str(packed), os.fsencode(packed)):
        with SquashfsImage(source) as image:
            assert image.name == os.fsencode(packed)
            assert seen_in_image(image) == content


def test_descriptor_stays_the_callers(packed: Path, content: Tree) -> None:
    with open(packed, "rb") as file:
        file.seek(7)
        with SquashfsImage(file.fileno()) as image:
            assert seen_in_image(image) == content
        assert file.tell() == 7
    fd = os.open(packed, os.O_RDONLY)
    image = SquashfsImage(fd)
    os.close(fd)
    assert seen_in_image(image) == content
    image.close()


def test_image_lies_at_an_offset(packed: Path, content: Tree, tmp_path: Path) -> None:
    for before, behind in ((b"", b"behind"), (b"h" * 4096, b""), (b"odd", b"x" * 5000)):
        path = tmp_path / f"at-{len(before)}"
        path.write_bytes(before + packed.read_bytes() + behind)
        for size in (None, packed.stat().st_size):
            with SquashfsImage(path, offset=len(before), size=size) as image:
                assert seen_in_image(image) == content
        with pytest.raises(SquashfsError):
            SquashfsImage(path, offset=len(before), size=packed.stat().st_size - 4096)


def test_descriptors_are_given_back(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"hsqs" + bytes(200))
    before = descriptors()
    for _ in range(50):
        with SquashfsImage(packed) as image:
            image.root  # noqa: B018
        with pytest.raises(SquashfsError):
            SquashfsImage(tmp_path / "none")
    assert descriptors() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = SquashfsImage(packed)
        assert descriptors() == before + 1
        assert os.get_inheritable(max(int(fd) for fd in os.listdir("/proc/self/fd") if _is(fd, packed))) is False
        del image
        gc.collect()
    assert descriptors() == before


def _is(fd: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == str(path)
    except FileNotFoundError:
        return False


def test_closed_image_says_so(packed: Path) -> None:
    image = SquashfsImage(packed)
    ref = image.root.ref
    image.close()
    image.close()
    for question in (image.inode, image.scan, image.readdir, image.readlink, image.pieces, image.xattrs):
        with pytest.raises(SquashfsError, match="the image is closed") as caught:
            question(ref)
        assert caught.value.errno == errno.EBADF
    assert image.superblock.inode_count > 0
    assert repr(image) == f"<SquashfsImage {str(packed)!r}, closed>"


def test_closing_while_others_read_harms_nobody(packed: Path) -> None:
    for _ in range(20):
        image = SquashfsImage(packed)
        pieces = image.pieces(image.lookup(b"text").ref)

        def read(image: SquashfsImage = image, pieces: object = pieces) -> int:
            done = 0
            try:
                while True:
                    list(image.walk())
                    done += 1
            except SquashfsError as error:
                assert error.errno == errno.EBADF
            return done

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            list(image.walk())
            image.close()
            for reader in readers:
                reader.result(timeout=PATIENCE)


def test_threads_see_what_one_sees(packed: Path, content: Tree) -> None:
    with SquashfsImage(packed) as image, ThreadPoolExecutor(6) as pool:
        for seen in pool.map(lambda _: seen_in_image(image), range(12)):
            assert seen == content


def python(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE, env=env
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_child_goes_on_with_what_its_parent_opened(packed: Path) -> None:
    """The mount launcher opens an image, forks, and leaves it to the child."""
    program = (
        "import os, sys\n"
        "from layerfs.pysquashfs import SquashfsImage\n"
        "image = SquashfsImage(sys.argv[1]); count = len(list(image.walk()))\n"
        "child = os.fork()\n"
        "assert len(list(image.walk())) == count and image.read(image.lookup(b'text').ref, 0, 10)\n"
        "if child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert python("-c", program, str(packed)) == "0\n"


WRONG = {
    "empty": (b"", errno.EINVAL, "too small for a squashfs superblock"),
    "text": (b"#!/bin/sh\n" * 50, errno.EINVAL, "not a squashfs image (no magic number)"),
    "head only": (b"hsqs" + bytes(92), errno.EOPNOTSUPP, "not version 4.0 of squashfs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_image_is_named(case: str, tmp_path: Path) -> None:
    data, number, reason = WRONG[case]
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(SquashfsError) as caught:
        SquashfsImage(tmp_path / "file")
    assert (caught.value.errno, str(caught.value)) == (number, f"{tmp_path / 'file'}: {reason}")
    assert caught.value.filename == os.fsencode(tmp_path / "file")


def test_truncated_image_is_named_before_it_is_used(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(packed.read_bytes()[:-5000])
    with pytest.raises(SquashfsError, match="the file ends before the image does") as caught:
        SquashfsImage(tmp_path / "half")
    assert (caught.value.errno, caught.value.code) == (errno.EIO, "SQFS_ERROR_OUT_OF_BOUNDS")


def test_file_cut_while_open_is_an_error_and_no_signal(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(packed.read_bytes())
    with SquashfsImage(path) as image:
        ref = image.lookup(b"text").ref
        os.truncate(path, 96)
        with pytest.raises(SquashfsError, match="the file ends before the image does"):
            image.read(ref, 0, 10)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(SquashfsError, match="neither a file nor a block device"):
            SquashfsImage(path)
    with pytest.raises(FileNotFoundError):
        SquashfsImage(tmp_path / "absent")
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EBADF))):
        SquashfsImage(10**6)


def test_what_cannot_be_read_says_why(packed: Path) -> None:
    fd = os.open(packed, os.O_WRONLY)
    with pytest.raises(SquashfsError, match="cannot be read"):
        SquashfsImage(fd)
    os.close(fd)
    for offset, size in ((-1, None), (0, -1), (2**63, None)):
        with pytest.raises(SquashfsError, match="no such range"):
            SquashfsImage(packed, offset=offset, size=size)
    with pytest.raises(SquashfsError, match="too small"):
        SquashfsImage(packed, offset=10**9)


def test_errors_survive_pickling(packed: Path) -> None:
    with SquashfsImage(packed) as image, pytest.raises(SquashfsError) as caught:
        image.lookup(b"link/x")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.errno, error.code, error.what, error.filename) == (
        str(caught.value), errno.ENOTDIR, "SQFS_ERROR_NOT_DIR", caught.value.what, os.fsencode(packed),
    )  # fmt: skip


@pytest.mark.parametrize("ref", [-1, 2**48, 2**64, 2**47, 0xFFFF, 2**63])
def test_wild_reference_is_an_error(ref: int, packed: Path) -> None:
    with SquashfsImage(packed) as image:
        for question in (image.inode, image.scan, image.readdir, image.pieces, image.readlink, image.xattrs):
            with pytest.raises(SquashfsError):
                question(ref)


def test_range_before_a_file_is_an_error(packed: Path) -> None:
    with SquashfsImage(packed) as image:
        for offset, size in ((-1, 5), (0, -1)):
            with pytest.raises(SquashfsError, match="no such range"):
                image.read(image.lookup(b"text").ref, offset, size)


def test_blocks_are_loaded_within_bounds(packed: Path) -> None:
    with SquashfsImage(packed) as image:
        piece = image.pieces(image.lookup(b"text").ref)[0]
        whole = image.load(piece.position, piece.stored, 32768)
        assert len(whole) == piece.length == 32768
        assert image.load(-1, 0, 100) == bytes(100)
        for position, stored, length in (
            (piece.position, piece.stored, 32767),
            (piece.position, piece.stored, 1),
            (piece.position, piece.stored, 0),
            (piece.position, piece.stored, 32769),
            (piece.position, piece.stored, -1),
            (piece.position, 2**25 | 5, 32768),
            (piece.position, 2**24, 32768),
            (piece.position, 40000, 32768),
            (-5, 100, 32768),
            (2**63, 100, 32768),
            (image.superblock.bytes_used - 10, 100, 32768),
        ):
            with pytest.raises(SquashfsError):
                image.load(position, stored, length)
        assert bytes(1) == b"\0"  # Python keeps one of each; none may have been written to
        assert image.load(piece.position, piece.stored, 32768) == whole


def test_block_device_holds_an_image(packed: Path, content: Tree) -> None:
    require("root", "losetup")
    done = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", packed], capture_output=True, text=True, check=True, timeout=30
    )
    device = done.stdout.strip()
    try:
        assert stat.S_ISBLK(os.stat(device).st_mode)
        with SquashfsImage(device) as image:
            assert seen_in_image(image) == content
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=PATIENCE)


def test_importing_the_reader_is_cheap() -> None:
    program = "import sys, layerfs.pysquashfs; print(*sys.modules)"
    # Without site, whose .pth files import what they like.
    found = {"PYTHONPATH": f"{PROJECT}:{sysconfig.get_path('platlib')}"}
    loaded = set(python("-S", "-c", program, env=found).split())
    assert "layerfs.pysquashfs.image" in loaded
    assert {"inspect", "pathlib", "dataclasses", "cffi", "threading", "layerfs.pysquashfs.writer"} & loaded == set()
