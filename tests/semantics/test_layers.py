"""Points 1 and 2: any number of layers, every mark that overlays leave on disk, and none of them visible."""

import errno
import os
from collections.abc import Callable

import pytest

from tests.oracle.trees import WHITEOUT, Layer, Marks, directory, file, symlink
from tests.semantics.mounted import Mounted, append, error_of, read, root_only, write


def stack_of(count: int) -> list[Layer]:
    """Each layer has a file of its own, one that it overwrites, and one in a shared directory."""
    return [
        {b"own%d" % index: file(b"%d" % index), b"top": file(b"%d" % index), b"shared/s%d" % index: file(b"%d" % index)}
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 40, 300])
def test_every_layer_is_seen_and_the_top_wins(union: Mounted, count: int) -> None:
    union.mount(*stack_of(count))
    assert len(union.names()) == count + 2 and len(union.names(b"shared")) == count
    assert read(union / b"top") == b"0"
    assert all(read(union / b"own%d" % index) == b"%d" % index for index in range(count))
    append(union / b"shared/s%d" % (count - 1), b"+")
    os.unlink(union / b"own0")
    union.remount()
    assert read(union / b"shared/s%d" % (count - 1)) == b"%d+" % (count - 1)
    assert not os.path.lexists(union / b"own0") and len(union.names(b"shared")) == count


LOWER: Layer = {
    b"gone": file(b"1"),
    b"d/gone": file(b"2"),
    b"d/kept": file(b"3"),
    b"o/hidden": file(b"4"),
    b"f/x": file(),
}
MARKED: Layer = {
    b"gone": WHITEOUT,
    b"d/gone": WHITEOUT,
    b"d": directory(),
    b"o": directory(opaque=True),
    b"o/shown": file(b"5"),
    b"f": file(b"was a directory"),
}


@pytest.mark.parametrize("marks", list(Marks), ids=lambda marks: marks.value)
def test_marks_hide_and_are_hidden(union: Mounted, marks: Marks) -> None:
    union.build(MARKED, LOWER, marks=marks)
    union.mount()
    tree = union.tree()
    assert sorted(tree.records) == [b"", b"d", b"d/kept", b"f", b"o", b"o/shown"]
    assert all(record.xattrs == () for record in tree.records.values())
    for name in (b"gone", b"d/gone", b"o/hidden"):
        assert error_of(os.lstat, union / name) == errno.ENOENT
    for name in (b".wh.gone", b".wh..wh..opq", b"o/.wh..wh..opq"):
        assert error_of(os.lstat, union / name) == errno.ENOENT


@pytest.mark.parametrize("marks", list(Marks), ids=lambda marks: marks.value)
def test_hidden_names_can_be_made_again(union: Mounted, marks: Marks) -> None:
    union.build(MARKED, LOWER, marks=marks)
    union.mount()
    write(union / b"gone", b"new")
    os.mkdir(union / b"d/gone")
    write(union / b"o/hidden", b"new")
    os.unlink(union / b"f")
    os.mkdir(union / b"f")
    for _ in range(2):
        assert read(union / b"gone") == read(union / b"o/hidden") == b"new"
        assert union.names(b"d/gone") == union.names(b"f") == []
        union.remount()


@pytest.mark.parametrize("target", [b"/elsewhere/deep", b"elsewhere"])
def test_redirects_are_followed(union: Mounted, target: bytes) -> None:
    """Absolute from the layer's root, or a sibling's bare name (overlayfs.rst, "renaming directories")."""
    lower: Layer = {b"elsewhere/deep/f": file(b"deep"), b"elsewhere/f": file(b"near"), b"here/hidden": file()}
    union.build({b"elsewhere": WHITEOUT, b"here": directory()}, lower)
    prefix = "trusted" if union.is_root else "user"
    os.setxattr(union.lowers[0] + b"/here", prefix + ".overlay.redirect", target)
    union.mount()
    assert union.names() == [b"here"]
    assert union.names(b"here") == ([b"f"] if b"/" in target else [b"deep", b"f"])
    assert read(union / b"here/f") == (b"deep" if b"/" in target else b"near")
    assert os.listxattr(union / b"here") == []


def test_a_name_over_another_type_hides_it(union: Mounted) -> None:
    union.mount(
        {b"file-over-dir": file(b"f"), b"dir-over-file/x": file(b"x"), b"link-over-dir": symlink(b"x")},
        {b"file-over-dir/a": file(), b"dir-over-file": file(b"old"), b"link-over-dir/b": file()},
        {b"dir-over-file/y": file(b"below a file: not merged")},
    )
    assert read(union / b"file-over-dir") == b"f"
    assert union.names(b"dir-over-file") == [b"x"]
    assert os.readlink(union / b"link-over-dir") == b"x"


def test_without_an_upper_everything_that_writes_is_erofs(union: Mounted) -> None:
    union.mount({b"f": file(b"1"), b"d/x": file()}, {b"g": file(b"2")}, upper=False)
    f, new = union / b"f", union / b"new"
    actions: list[tuple[Callable[..., object], tuple[object, ...]]] = [
        (os.open, (f, os.O_WRONLY)),
        (os.open, (f, os.O_RDWR | os.O_TRUNC)),
        (os.open, (new, os.O_CREAT | os.O_WRONLY)),
        (os.truncate, (f, 0)),
        (os.mkdir, (new,)),
        (os.mkfifo, (new,)),
        (os.symlink, (b"x", new)),
        (os.link, (f, new)),
        (os.unlink, (f,)),
        (os.rmdir, (union / b"d",)),
        (os.rename, (f, new)),
        (os.chmod, (f, 0o600)),
        (os.chown, (f, os.getuid(), os.getgid())),
        (os.utime, (f,)),
        (os.setxattr, (f, "user.x", b"1")),
        (os.removexattr, (f, "user.x")),
    ]
    assert [error_of(action, *arguments) for action, arguments in actions] == [errno.EROFS] * len(actions)
    assert read(f) == b"1" and read(union / b"g") == b"2"
    assert error_of(os.access, f, os.W_OK) == 0 and not os.access(f, os.W_OK)


def test_what_the_upper_holds_needs_no_lower(union: Mounted) -> None:
    """Whiteouts are left only where a lower has the name; making and removing leaves nothing."""
    union.mount({b"d/lower": file()})
    write(union / b"d/new", b"1")
    os.unlink(union / b"d/new")
    os.mkdir(union / b"made")
    os.rmdir(union / b"made")
    union.unmount()
    assert os.listdir(union.upper) == [b"d"] and os.listdir(union.upper + b"/d") == []
    assert os.listdir(union.work) in ([], [b"work"])


@root_only
def test_marks_of_root_do_not_count_for_user_xattrs_alone(union: Mounted) -> None:
    """A trusted mark is read as root whatever user.overlay says; both kinds are read and hidden."""
    union.build({b"d/new": file()}, {b"d/old": file()})
    os.setxattr(union.lowers[0] + b"/d", "user.overlay.opaque", b"y")
    union.mount()
    assert union.names(b"d") == [b"new"]
    assert os.listxattr(union / b"d") == []
