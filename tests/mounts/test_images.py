"""Images under the kernel driver as root: loop devices that nobody sees, that are refused clearly, that are freed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import Corrupt, InvalidArgument, LayerfsError, NotFound, Unsupported
from layerfs.model import Stack
from layerfs.mounts import images
from layerfs.mounts.images import LoopsRefused, kernel_stack, mount_images
from layerfs.mounts.kernel import mount_validated, words_for
from layerfs.sys import loop, overlay
from layerfs.sys.mounts import unmount
from layerfs.sys.overlay import LayerSyntax
from layerfs.union.options import UnionOptions
from layerfs.xar.image_file import NotImage
from tests.conftest import mounts_below
from tests.e2e.manifest import manifest
from tests.host import BIN
from tests.images import loops_below
from tests.mounts.stacks import CHANGES, KILLED, Place, clean, facts, spoil
from tests.mounts.stacks import place as place
from tests.waiting import PATIENCE, wait_until


@pytest.mark.parametrize("driver", ["kernel", "auto"])
def test_mixed_stack_looks_like_its_directories(place: Place, driver: str) -> None:
    place.do("mount", *place.directories, place.mnt, "--driver=kernel")
    expected = facts(manifest(str(place.mnt)))
    place.do("umount", place.mnt)
    place.mount(f"--driver={driver}")
    assert facts(manifest(str(place.mnt))) == expected
    status = place.status()
    assert (status["driver"], status["pid"]) == ("kernel", None)
    assert status["why"].endswith("images by loop devices")
    assert status["layers"] == [str(layer) for layer in place.stack]


def test_what_is_written_over_images_is_what_is_written_over_directories(place: Place) -> None:
    seen = []
    for number, stack in enumerate((place.directories, place.stack)):
        (upper,) = place.new(f"upper{number}")
        place.do("mount", *stack, place.mnt, "--upper", upper, "--driver=kernel")
        subprocess.run(["sh", "-ec", CHANGES, "sh", str(place.mnt)], check=True, timeout=PATIENCE)
        seen.append((facts(manifest(str(place.mnt)), "mtime"), place.do("diff", place.mnt)))
        place.do("umount", place.mnt)
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == seen[1][1]
    assert "M /file\n" in seen[0][1]
    assert (place.base / "upper1/file").read_text() == "middlemore\n"


@pytest.mark.parametrize("upper", [False, True])
def test_single_image_is_mounted_and_its_marks_do_not_show(place: Place, upper: bool) -> None:
    words: list[str | Path] = ["--upper", *place.new("upper")] if upper else []
    place.do("mount", place.images[0], place.mnt, *words, "--driver=kernel")
    assert sorted(os.listdir(place.mnt)) == ["device", "dir", "file", "first", "link", "opaque", "second"]
    assert bool(os.statvfs(place.mnt).f_flag & os.ST_RDONLY) is not upper


def test_images_have_no_mountpoint_and_go_with_the_overlay(place: Place) -> None:
    place.mount("--driver=kernel")
    with open("/proc/self/mountinfo") as table:
        assert "squashfs" not in table.read()
    assert len(loops_below(place.base)) == 2
    unmount(os.fsencode(place.mnt))  # by umount(8), say
    wait_until(lambda: clean(place.base), "loop devices to be freed")


def test_thirty_two_images_in_one_stack(place: Place) -> None:
    layers = []
    for number in range(32):
        layers.append(place.base / f"copy{number}")
        layers[-1].write_bytes((place.base / "middle.sqfs").read_bytes())
    place.do("mount", *layers, place.mnt, "--driver=kernel")
    assert len(loops_below(place.base)) == 32
    place.do("umount", place.mnt)


def test_stacks_mounted_at_once_by_many_processes(place: Place) -> None:
    points = place.new(*(f"mnt{number}" for number in range(8)))
    start = [str(BIN / "layerfs"), "mount", "--driver=kernel", *map(str, place.stack)]
    running = [subprocess.Popen([*start, str(point)], stderr=subprocess.PIPE) for point in points]
    assert [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in running] == [(b"", 0)] * 8
    assert len(loops_below(place.base)) == 16
    for point in points:
        assert (point / "file").read_text() == "middle"
        place.do("umount", point)


@pytest.mark.parametrize("syntax", LayerSyntax)
def test_older_kernels_take_the_mounts_from_a_namespace_of_their_own(
    place: Place, monkeypatch: pytest.MonkeyPatch, syntax: LayerSyntax
) -> None:
    """Before Linux 6.15 a mount that is nowhere is no layer: EINVAL."""
    tries = []

    def make(*arguments: Any) -> int:
        tries.append(arguments)
        if len(tries) == 1:
            raise OSError(22, "Invalid argument")
        return made(*arguments)

    made = overlay._make
    monkeypatch.setattr(overlay, "_make", make)
    monkeypatch.setattr(overlay, "layer_syntax", lambda: syntax)
    stack = Stack(tuple(map(os.fsencode, place.stack)))
    with kernel_stack(stack, os.fsencode(place.mnt), None) as found:
        mount_validated(found.stack, words_for(stack, UnionOptions()), os.fsencode(place.mnt))
    assert (place.mnt / "file").read_text() == "middle"
    assert mounts_below(place.base) == [str(place.mnt)]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("absent", NotFound, "absent"),
        ("text", NotImage, "neither a squashfs image nor a XAR"),
        ("empty", NotImage, "neither a squashfs image nor a XAR"),
        ("short", Corrupt, "is cut short: "),
        ("header", Corrupt, "is cut short: 50 bytes of"),
        ("superblock", Unsupported, "the kernel does not mount the image"),
        ("tables", Unsupported, "the kernel does not mount the image"),
        ("unpadded", Unsupported, "within a sector of 512 bytes"),
        ("lzma", Unsupported, '"lzma" compression'),
    ],
)
def test_image_that_cannot_be_mounted_is_named_and_nothing_is_left(
    place: Place, kind: str, error: type[LayerfsError], words: str
) -> None:
    path = place.base / "absent" if kind == "absent" else spoil(place, kind)
    done = place.start(BIN / "layerfs", "mount", place.stack[0], place.images[0], path, place.mnt, "--driver=kernel")
    assert done.returncode == 1
    assert words in done.stderr
    assert str(path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert mounts_below(place.base) == []
    if kind != "absent":
        with pytest.raises(error, match=words):
            mount_images((os.fsencode(place.images[0]), os.fsencode(path)))


@pytest.mark.parametrize(
    ("kind", "words"), [("unpadded", "within a sector of 512 bytes"), ("lzma", '"lzma" compression')]
)
def test_auto_takes_fuse_for_an_image_that_the_kernel_cannot_mount(place: Place, kind: str, words: str) -> None:
    place.do("mount", place.stack[0], spoil(place, kind), place.mnt)
    status = place.status()
    assert (status["driver"], (place.mnt / "file").read_text()) == ("fuse", "middle")
    assert words in status["why"]
    place.do("umount", place.mnt)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(1, "Operation not permitted"), "this user may not mount images"),
        (PermissionError(13, "Permission denied", loop.CONTROL), "this user may not mount images"),
        (FileNotFoundError(2, "No such file or directory", loop.CONTROL), "there are no loop devices"),
        (OSError(19, "No such device"), "this kernel has no squashfs"),
    ],
)
def test_host_without_loop_mounts_says_what_it_lacks(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def refuse(_path: bytes, _offset: int) -> int:
        raise error

    monkeypatch.setattr(images, "mount_image", refuse)
    with pytest.raises(LoopsRefused, match=words) as caught:
        mount_images(tuple(map(os.fsencode, place.images)))
    assert caught.value.hint


def test_image_that_may_not_be_read_is_no_lack_of_loop_devices(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: bytes, _offset: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(images, "mount_image", refuse)
    with pytest.raises(InvalidArgument, match="cannot be opened: Permission denied"):
        mount_images((os.fsencode(place.images[0]),))


def test_mount_that_is_killed_half_way_leaves_nothing(place: Place) -> None:
    done = place.start(sys.executable, "-c", KILLED, "mount", *place.stack, place.mnt, "--driver=kernel")
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: clean(place.base), "loop devices to be freed")


def test_command_runs_on_images_as_root(place: Place) -> None:
    text = "cat file dir/bottom; echo new > new; grep -c squashfs /proc/self/mountinfo || true"
    assert place.do("run", *place.stack, "--", "sh", "-ec", text) == "middlebottom0\n"


@pytest.mark.parametrize("driver", ["kernel", "fuse"])
@pytest.mark.parametrize("before", [4096, 188_393], ids=["a page", "any byte"])
def test_an_image_inside_a_file_is_mounted_from_its_offset(place: Place, driver: str, before: int) -> None:
    """AppImages and SIF files hold their image behind a program."""
    part = place.base / "part"
    part.write_bytes(b"\x7fELF".ljust(before, b"\0") + Path(place.images[0]).read_bytes())
    expected = {}
    for image, words in {Path(place.images[0]): (), part: ("-o", f"offset={before}")}.items():
        upper, *_ = place.new(f"upper-{image.name}-{driver}-{before}")
        place.do("mount", image, place.mnt, "--upper", upper, f"--driver={driver}", *words)
        subprocess.run(["sh", "-ec", "echo new >new; rm file", "sh"], cwd=place.mnt, check=True, timeout=PATIENCE)
        expected[image] = facts(manifest(str(place.mnt)), "mtime"), place.do("diff", place.mnt)
        place.do("umount", place.mnt)
    assert expected[part] == expected[Path(place.images[0])]


@pytest.mark.parametrize("driver", ["kernel", "fuse"])
def test_an_offset_without_an_image_is_refused(place: Place, driver: str) -> None:
    words = ["-o", "offset=17", f"--driver={driver}"]
    done = place.start(BIN / "layerfs", "mount", place.images[0], place.mnt, *words)
    assert (done.returncode, "has no squashfs image at byte 17" in done.stderr) == (1, True)
    assert mounts_below(place.base) == []


@pytest.mark.parametrize("driver", ["kernel", "fuse"])
def test_a_block_device_is_a_layer(place: Place, driver: str) -> None:
    """It was called neither a directory nor an image."""
    command = ["losetup", "--find", "--show", "--read-only", str(place.images[0])]
    device = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE).stdout.strip()
    try:
        place.do("mount", place.images[0], place.mnt, f"--driver={driver}")
        expected = facts(manifest(str(place.mnt)))
        place.do("umount", place.mnt)
        place.do("mount", device, place.mnt, f"--driver={driver}")
        assert facts(manifest(str(place.mnt))) == expected
        place.do("umount", place.mnt)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=PATIENCE)
