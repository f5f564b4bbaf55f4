"""`layerfs diff`: one list for every way in which an upper says what it changes."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Place
from tests.host import require
from tests.waiting import PATIENCE

CHANGED = """\
D /dir
A /dir2
A /dir2/inside
A /dir2/sub
A /dir2/sub/deep
D /gone
A /kind
A /new
A /new/file
M /redone
A /redone/after
D /redone/before
M /touched
"""


def build_layers(place: Place) -> None:
    """Write what will be changed, over both layers."""
    top, bottom = place.layers
    for path in ("dir/sub", "redone", "plain", "gone"):
        (bottom / path).mkdir(parents=True)
    for path in ("dir/inside", "dir/sub/deep", "redone/before", "touched", "plain/same", "gone/x"):
        (bottom / path).write_text("old")
    (top / "gone").mkdir()
    (top / "gone" / "y").touch()


def change(root: Path) -> None:
    """Change a merged tree in every way."""
    shutil.rmtree(root / "gone")
    (root / "dir").rename(root / "dir2")
    (root / "touched").write_text("new")
    shutil.rmtree(root / "redone")
    (root / "redone").mkdir(mode=0o700)
    (root / "redone" / "after").touch()
    (root / "new").mkdir()
    (root / "new" / "file").touch()
    (root / "kind").symlink_to("nowhere")


def lowers(place: Place) -> list[str]:
    return [word for layer in place.layers for word in ("--lower", str(layer))]


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_the_changes_of_a_mount_are_listed_sorted_mounted_or_not(place: Place, driver: str) -> None:
    if driver == "kernel":
        require("kernel overlay")
    build_layers(place)
    place.mount("--driver", driver)
    change(place.mnt)
    assert place.do("diff", "mnt") == CHANGED
    assert place.do("diff", "upper") == CHANGED
    place.do("umount", "mnt")
    assert place.do("diff", "upper", *lowers(place)) == CHANGED


def test_fuse_overlayfss_upper_is_understood(place: Place) -> None:
    require("/usr/bin/fuse-overlayfs")
    build_layers(place)
    (place.base / "work").mkdir()
    text = "lowerdir=top:bottom,upperdir=upper,workdir=work"
    subprocess.run(["/usr/bin/fuse-overlayfs", "-o", text, "mnt"], check=True, cwd=place.base, timeout=PATIENCE)
    shutil.rmtree(place.mnt / "gone")
    (place.mnt / "touched").write_text("new")
    shutil.rmtree(place.mnt / "redone")
    (place.mnt / "redone").mkdir()
    subprocess.run(["umount", place.mnt], check=True, timeout=PATIENCE)
    assert place.do("diff", "upper", *lowers(place)) == "D /gone\nD /redone/before\nM /touched\n"


def test_whiteout_files_and_opaque_files_are_understood(place: Place) -> None:
    build_layers(place)
    (place.upper / ".wh.touched").touch()
    (place.upper / "plain").mkdir()
    (place.upper / "plain" / ".wh..wh..opq").touch()
    assert place.do("diff", "upper", *lowers(place)) == "D /plain/same\nD /touched\n"


def test_a_whiteout_of_nothing_is_no_change(place: Place) -> None:
    build_layers(place)
    os.mknod(place.upper / "absent", stat.S_IFCHR, 0)
    assert place.do("diff", "upper", *lowers(place)) == ""


def test_a_directory_is_modified_by_its_mode_owner_or_xattrs(place: Place) -> None:
    build_layers(place)
    place.mount("--driver", "fuse")
    (place.mnt / "plain").chmod(0o700)
    os.chown(place.mnt / "redone", 1, 1)
    os.setxattr(place.mnt / "gone", "user.note", b"x")
    (place.mnt / "dir" / "inside").chmod(0o600)
    assert place.do("diff", "mnt") == "M /dir/inside\nM /gone\nM /plain\nM /redone\n"


def test_a_change_of_kind_is_a_modification(place: Place) -> None:
    build_layers(place)
    place.mount("--driver", "fuse")
    (place.mnt / "touched").unlink()
    (place.mnt / "touched").mkdir()
    (place.mnt / "touched" / "below").touch()
    shutil.rmtree(place.mnt / "plain")
    (place.mnt / "plain").touch()
    assert place.do("diff", "mnt") == "M /plain\nM /touched\nA /touched/below\n"


def test_without_lowers_the_marks_of_the_upper_are_read(place: Place) -> None:
    build_layers(place)
    place.mount("--driver", "fuse")
    change(place.mnt)
    place.do("umount", "mnt")
    shown = place.do("diff", "upper").splitlines()
    for line in ("D /dir", "A /dir2", "D /gone", "A /new/file", "A /kind", "M /touched"):
        assert line in shown
    assert shown == sorted(shown, key=lambda line: line[2:])


def test_json_lists_objects_and_keeps_every_name(place: Place) -> None:
    build_layers(place)
    name = os.fsdecode(b"odd\n\xff")
    (place.upper / name).touch()
    assert json.loads(place.do("diff", "upper", *lowers(place), "--json")) == [{"change": "A", "path": f"/{name}"}]
    assert place.do("diff", "upper", *lowers(place)) == "A /odd\\n\\xff\n"


@pytest.mark.parametrize(
    ("words", "said"), [(["absent"], "no such mountpoint or upper"), (["upper", "--lower", "absent"], "absent")]
)
def test_what_is_not_there_is_said(place: Place, words: list[str], said: str) -> None:
    done = place.run("diff", *words)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_mount_without_an_upper_has_no_changes_to_list(place: Place) -> None:
    place.do("mount", "top", "mnt", "--driver", "fuse")
    done = place.run("diff", "mnt")
    assert done.returncode == 1
    assert "has no upper" in done.stderr


def test_depth_is_no_matter(place: Place) -> None:
    """It recursed: 600 directories that a container made, each in the one before, ended it."""
    step = place.upper.joinpath(*["d"] * 600)
    step.mkdir(parents=True)
    assert [len(place.do("diff", "upper", *more).splitlines()) for more in ([], lowers(place))] == [600, 600]


def test_a_mountpoint_without_its_mount_is_an_error(place: Place) -> None:
    """It was silence, as of an upper that changes nothing."""
    place.mount("--driver", "kernel")
    subprocess.run(["umount", place.mnt], check=True)
    done = place.run("diff", "mnt")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"mnt is not mounted any more (hint: mount it, or name its upper, {place.upper})" in done.stderr
    place.do("umount", "mnt")
    done = place.run("diff", "mnt")
    assert done.returncode == 1
    assert "mnt is not mounted, and empty (hint: mount it" in done.stderr
    assert place.do("diff", "upper") == ""
