"""mountinfo, mount(2), binds, unmounting, and kernel overlayfs by each of its interfaces."""

import errno
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.model import Mount, Stack
from layerfs.sys import mounts, overlay
from layerfs.sys.fsmount import FsContext
from layerfs.sys.mounts import (
    MountFlag,
    MountInfo,
    Real,
    mount,
    mountinfo,
    overlay_upon,
    parse_generic,
    unmount,
)
from layerfs.sys.overlay import LayerSyntax, escape, joined, layer_syntax, mount_overlay
from tests.host import BIN, Person, require
from tests.waiting import wait_until

ODD = ["a,b", "c:d", "back\\slash", "new\nline", "space tab\t", "\\054", "#", "\udcff", "l" * 200 + "/" + "m" * 200]


@pytest.fixture
def target(scratch: Path) -> Path:
    place = scratch / "target"
    place.mkdir()
    return place


def mounted(place: Path) -> list[MountInfo]:
    return [info for info in mountinfo() if info.target == os.fsencode(place)]


def make_layers(scratch: Path, names: list[str]) -> tuple[bytes, ...]:
    """Layers with one file each, named by its number."""
    for number, name in enumerate(names):
        (scratch / name).mkdir(parents=True)
        (scratch / name / f"file{number}").touch()
    return tuple(os.fsencode(scratch / name) for name in names)


def test_later_generic_options_win_and_the_rest_is_the_filesystems() -> None:
    options = ("ro", "nosuid", "", "mode=0700", "rw", "noatime", "suid", "nosuid", "lowerdir=/a")
    assert parse_generic(options) == (MountFlag.NOSUID | MountFlag.NOATIME, ("mode=0700", "lowerdir=/a"))


@pytest.mark.mounts
def test_mount_value_of_a_filesystem_is_mounted_with_its_options(target: Path) -> None:
    require("root")
    mount(Mount("tmpfs", "somewhere", ("nosuid", "size=8k", "mode=0711"), str(target)))
    (info,) = mounted(target)
    assert (info.type, info.source) == (b"tmpfs", b"somewhere")
    assert b"nosuid" in info.options
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    unmount(os.fsencode(target))
    assert mounted(target) == []


@pytest.mark.mounts
def test_read_only_bind_refuses_writes_and_leaves_the_source_writable(scratch: Path, target: Path) -> None:
    require("root")
    (scratch / "source").mkdir()
    mount(Mount("none", str(scratch / "source"), ("bind", "ro", "noexec"), str(target)))
    with pytest.raises(OSError, match="Read-only"):
        (target / "file").touch()
    (scratch / "source" / "file").touch()
    assert (target / "file").exists()
    assert {b"ro", b"noexec"} <= set(mounted(target)[0].options)
    assert mounted(target)[0].fields == ()


@pytest.mark.mounts
def test_bind_shows_what_is_mounted_below_only_when_recursive(scratch: Path, target: Path) -> None:
    require("root")
    (scratch / "source" / "below").mkdir(parents=True)
    mount(Mount("tmpfs", "tmpfs", target=str(scratch / "source" / "below")))
    (scratch / "source" / "below" / "file").touch()
    mount(Mount("none", str(scratch / "source"), ("bind",), str(target)))
    assert list((target / "below").iterdir()) == []
    mount(Mount("none", str(scratch / "source"), ("rbind",), str(target)))
    assert [path.name for path in (target / "below").iterdir()] == ["file"]


@pytest.mark.mounts
def test_bind_that_cannot_get_its_flags_is_undone(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")

    def refuse(_target: bytes) -> None:
        raise OSError(errno.EPERM, "as for a locked mount in a user namespace")

    monkeypatch.setattr(mounts, "make_private", refuse)
    with pytest.raises(OSError, match="locked mount"):
        mount(Mount("none", "/proc", ("bind", "ro"), str(target)))
    assert mounted(target) == []


def test_unmount_says_what_is_wrong(scratch: Path, target: Path) -> None:
    require("root")
    for place, error in ((target, errno.EINVAL), (scratch / "nowhere", errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            unmount(os.fsencode(place))
        assert (caught.value.errno, caught.value.filename) == (error, os.fsencode(place))


@pytest.mark.mounts
def test_busy_mount_is_unmounted_lazily_only(target: Path) -> None:
    require("root")
    mount(Mount("tmpfs", "tmpfs", target=str(target)))
    with (target / "file").open("w"):
        with pytest.raises(OSError) as caught:
            unmount(os.fsencode(target))
        assert caught.value.errno == errno.EBUSY
        unmount(os.fsencode(target), lazy=True)
    assert mounted(target) == []


@pytest.mark.mounts
def test_unmount_does_not_follow_a_symlink(scratch: Path, target: Path) -> None:
    require("root")
    mount(Mount("tmpfs", "tmpfs", target=str(target)))
    (scratch / "link").symlink_to(target)
    with pytest.raises(OSError, match="Invalid argument"):
        unmount(os.fsencode(scratch / "link"))
    assert len(mounted(target)) == 1


@pytest.mark.mounts
def test_a_step_that_becomes_a_symlink_leads_to_no_other_mount(scratch: Path) -> None:
    """Whoever owns a step of the path chose what root unmounted."""
    require("root")
    for name in ("own", "other"):
        (scratch / name / "mnt").mkdir(parents=True)
        mount(Mount("tmpfs", "tmpfs", target=str(scratch / name / "mnt")))
    (scratch / "swapped").symlink_to("other")
    with pytest.raises(NotADirectoryError) as caught:
        unmount(Real(os.fsencode(scratch / "swapped/mnt")))
    assert caught.value.filename == os.fsencode(scratch / "swapped/mnt")
    unmount(Real(os.fsencode(scratch / "own/mnt")))
    assert (len(mounted(scratch / "own/mnt")), len(mounted(scratch / "other/mnt"))) == (0, 1)
    unmount(Real(os.fsencode(scratch / "other/mnt")), lazy=True)
    assert mounted(scratch / "other/mnt") == []


@pytest.mark.parametrize("syntax", [None, *LayerSyntax])
def test_a_mountpoint_that_becomes_a_symlink_leads_to_no_other_place(scratch: Path, syntax: LayerSyntax | None) -> None:
    """Whoever owns a step of the mountpoint chose where root mounted: over /etc, from a layer of theirs."""
    require("root", "kernel overlay")
    layers = make_layers(scratch, ["one", "two"])
    (scratch / "etc/mnt").mkdir(parents=True)
    (scratch / "home").symlink_to("etc")
    (scratch / "etc/link").symlink_to("mnt")
    for place in (scratch / "home/mnt", scratch / "etc/link"):
        with pytest.raises(NotADirectoryError):
            if syntax is None:
                mounts.mount_raw(b"tmpfs", b"tmpfs", Real(os.fsencode(place)), 0)
            else:
                mount_overlay(Stack(layers), Real(os.fsencode(place)), syntax=syntax)
    assert mounted(scratch / "etc/mnt") == []
    mount_overlay(Stack(layers), Real(os.fsencode(scratch / "etc/mnt")), syntax=syntax)
    assert len(mounted(scratch / "etc/mnt")) == 1
    unmount(Real(os.fsencode(scratch / "etc/mnt")))


def test_a_persons_unmount_by_fusermount_goes_by_pinned_steps_too(scratch: Path, person: Person) -> None:
    require("fuse")
    person.owns(scratch / "low", *(scratch / name / "mnt" for name in ("own", "other")))
    for name in ("own", "other"):
        person.run([BIN / "layerfs", "mount", "--driver=fuse", scratch / "low", scratch / name / "mnt"])
    (scratch / "swapped").symlink_to("other")
    code = "import os, sys; from layerfs.sys.mounts import Real, unmount; unmount(Real(os.fsencode(sys.argv[1])))"
    refused = person.run([sys.executable, "-c", code, scratch / "swapped/mnt"], check=False)
    assert "NotADirectoryError" in refused.stderr
    assert len(mounted(scratch / "other/mnt")) == 1
    for name in ("own", "other"):
        # The server may ask for its mount's root once as it starts, and keep it busy for a moment.
        command: list[str | Path] = [sys.executable, "-c", code, scratch / name / "mnt"]
        wait_until(partial(_succeeds, person, command), "the unmount")
        assert mounted(scratch / name / "mnt") == []


def _succeeds(person: Person, command: list[str | Path]) -> bool:
    return person.run(command, check=False).returncode == 0


UNMOUNTS = """
import os, sys
from layerfs.fuse.mount import attach
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import mountinfo, unmount
target, other = map(os.fsencode, sys.argv[1:])
def said(place, **how):
    try:
        unmount(place, **how)
    except OSError as error:
        return error.errno
    return "unmounted"
print(said(target), said(other))
device = attach(target, AttachOptions())
held = os.open(target, os.O_PATH)
print(said(target), said(target, lazy=True), any(info.target == target for info in mountinfo()))
"""


@pytest.mark.mounts
def test_person_unmounts_their_own_fuse_mounts_and_no_others(scratch: Path, person: Person) -> None:
    require("root", "fuse", "fusermount3")
    theirs, other = scratch / "theirs", scratch / "other"
    person.owns(theirs, other)
    mount(Mount("tmpfs", "tmpfs", target=str(other)))
    said = person.run([BIN / "python", "-c", UNMOUNTS, theirs, other]).stdout.split()
    assert said == [str(errno.EINVAL), str(errno.EPERM), str(errno.EBUSY), "unmounted", "False"]


@pytest.mark.parametrize("syntax", LayerSyntax)
@pytest.mark.parametrize("name", ODD)
def test_any_path_can_be_a_layer(scratch: Path, target: Path, syntax: LayerSyntax, name: str) -> None:
    require("kernel overlay")
    lowers = make_layers(scratch, [f"lower/{name}", "plain"])
    upper, work = scratch / "upper" / name, scratch / "work" / name
    upper.mkdir(parents=True)
    work.mkdir(parents=True)
    stack = Stack(lowers, os.fsencode(upper), os.fsencode(work))
    mount_overlay(stack, os.fsencode(target), (), MountFlag.NOSUID | MountFlag.NOATIME, syntax)
    (target / "new").touch()
    (target / "file0").unlink()
    assert sorted(path.name for path in target.iterdir()) == ["file1", "new"]
    assert sorted(path.name for path in upper.iterdir()) == ["file0", "new"]
    assert {b"nosuid", b"noatime"} <= set(mounted(target)[0].options)


@pytest.mark.parametrize("syntax", LayerSyntax)
@pytest.mark.parametrize("name", ODD[:-1])
def test_overlay_is_found_by_its_upper_and_work(scratch: Path, target: Path, syntax: LayerSyntax, name: str) -> None:
    require("kernel overlay")
    upper, work = scratch / "upper" / name, scratch / "work" / name
    upper.mkdir(parents=True)
    work.mkdir(parents=True)
    stack = Stack(make_layers(scratch, ["lower"]), os.fsencode(upper), os.fsencode(work))
    mount_overlay(stack, os.fsencode(target), syntax=syntax)
    assert overlay_upon(os.fsencode(upper)) == overlay_upon(os.fsencode(work)) == mounted(target)[0]
    assert overlay_upon(os.fsencode(scratch / "lower")) is None


@pytest.mark.parametrize("syntax", LayerSyntax)
def test_stack_without_an_upper_is_read_only(scratch: Path, target: Path, syntax: LayerSyntax) -> None:
    require("kernel overlay")
    mount_overlay(Stack(make_layers(scratch, ["a", "b"])), os.fsencode(target), syntax=syntax)
    assert sorted(path.name for path in target.iterdir()) == ["file0", "file1"]
    with pytest.raises(OSError) as caught:
        (target / "new").touch()
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("syntax", [LayerSyntax.DESCRIPTOR, LayerSyntax.NAME])
def test_single_lower_hides_its_marks_and_leaves_one_mount(scratch: Path, target: Path, syntax: LayerSyntax) -> None:
    require("kernel overlay")
    (lower,) = make_layers(scratch, ["lower"])
    os.mknod(scratch / "lower" / "whiteout", stat.S_IFCHR, 0)
    mount_overlay(Stack((lower,)), os.fsencode(target), syntax=syntax)
    assert [path.name for path in target.iterdir()] == ["file0"]
    assert [info.type for info in mounted(target)] == [b"overlay"]
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()


@pytest.mark.mounts
def test_single_lower_is_bound_where_there_is_only_mount2(scratch: Path, target: Path) -> None:
    require("root")
    mount_overlay(Stack(make_layers(scratch, ["lower"])), os.fsencode(target), syntax=LayerSyntax.JOINED)
    assert [path.name for path in target.iterdir()] == ["file0"]
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()


@pytest.mark.parametrize("syntax", [LayerSyntax.DESCRIPTOR, LayerSyntax.NAME])
def test_three_hundred_long_paths_stack(scratch: Path, target: Path, syntax: LayerSyntax) -> None:
    require("kernel overlay")
    lowers = make_layers(scratch, [f"{'l' * 150}/{'m' * 150}{number}" for number in range(300)])
    mount_overlay(Stack(lowers), os.fsencode(target), syntax=syntax)
    assert len(list(target.iterdir())) == 300


def test_too_much_for_mount2_names_the_limit(scratch: Path, target: Path) -> None:
    stack = Stack(tuple(b"/%d/" % number + b"x" * 200 for number in range(300)))
    with pytest.raises(Unsupported, match=r"300 lower directories need \d+ bytes .* takes 4095"):
        mount_overlay(stack, os.fsencode(target), syntax=LayerSyntax.JOINED)


def test_layers_are_escaped_as_overlayfs_reads_them() -> None:
    assert escape(b"a,b:c\\d") == b"a\\,b\\:c\\\\d"
    stack = Stack((b"/a:b", b"/c"), b"/u,", b"/w")
    assert joined(stack, ("userxattr",)) == b"lowerdir=/a\\:b:/c,upperdir=/u\\,,workdir=/w,userxattr"


def test_missing_layer_is_named_and_nothing_is_left(scratch: Path, target: Path) -> None:
    require("kernel overlay")
    (lower,) = make_layers(scratch, ["lower"])
    with pytest.raises(FileNotFoundError) as caught:
        mount_overlay(Stack((lower, b"/nowhere")), os.fsencode(target))
    assert caught.value.filename == b"/nowhere"
    assert mounted(target) == []


def test_refused_single_lower_leaves_no_ground_behind(scratch: Path, target: Path) -> None:
    require("kernel overlay")
    with pytest.raises(OSError, match="Unknown parameter 'bogus'"):
        mount_overlay(Stack(make_layers(scratch, ["lower"])), os.fsencode(target), ("bogus",))
    assert mounted(target) == []


def test_kernels_own_words_are_in_the_error() -> None:
    require("kernel overlay")
    with FsContext(b"overlay") as context, pytest.raises(OSError, match="overlay: Unknown parameter 'bogus'") as caught:
        context.set_flag(b"bogus")
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EOPNOTSUPP])
def test_best_syntax_is_found_by_trying_and_remembered(monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    """Linux 6.5 does not know lowerdir+; 6.1 takes no descriptor in fsconfig(2) for overlays, and any name at all."""
    require("kernel overlay")
    tried: list[LayerSyntax] = []

    def refuse(_context: FsContext, _key: bytes, _path: bytes, syntax: LayerSyntax) -> None:
        tried.append(syntax)
        raise OSError(refusal, "as an older kernel does")

    layer_syntax.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(overlay, "_set_layer", refuse)
        assert layer_syntax() is LayerSyntax.JOINED
        assert layer_syntax() is LayerSyntax.JOINED
    layer_syntax.cache_clear()
    assert tried == [LayerSyntax.DESCRIPTOR, LayerSyntax.NAME][: 2 if refusal == errno.EINVAL else 1]


def test_refusal_for_want_of_rights_is_not_remembered(scratch: Path, person: Person) -> None:
    program = (
        "from layerfs.sys.overlay import layer_syntax\ntry: layer_syntax()\nexcept PermissionError: print('EPERM')"
    )
    assert person.run([BIN / "python", "-c", program]).stdout == "EPERM\n"


def test_mounting_modules_are_light_to_import() -> None:
    """`layerfs mount` imports them before it mounts: they must not bring in what costs milliseconds."""
    program = "import sys, layerfs.mounts.choice; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"shutil", "tempfile", "subprocess", "argparse", "trio", "pyfuse3"} & set(loaded)
