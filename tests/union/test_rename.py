"""Rename of every kind of thing onto every other, with the native filesystem as the judge."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.sys import dirs, libc
from layerfs.sys.dirs import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from layerfs.union import removal
from layerfs.union.inodes import Directory, File
from layerfs.union.options import RedirectDir, UnionOptions
from layerfs.union.state import FEW
from tests.oracle.trees import WHITEOUT, Layer, directory, file, hardlink, symlink
from tests.union.box import Box, Tree, marks_of
from tests.union.kernel import overlay, tree_of

LOWER: Layer = {
    b"lf": file(b"lf"), b"ls": symlink(b"lf"), b"cf": file(b"low"), b"gone": file(b"gone"), b"le": directory(),
    b"ld/a": file(b"a"), b"ld/s/b": file(b"b"), b"md/low": file(b"low"), b"md/hidden": file(b"-"), b"wd/w": file(b"-"),
    b"od/x": file(b"-"), b"to/gone": file(b"-"), b"to/kept": file(b"kept"),
}  # fmt: skip
BOTTOM: Layer = {b"ld/s/deep": file(b"deep"), b"md/sub/x": file(b"x"), b"gone/was/dir": file(b"-")}
UPPER: Layer = {
    b"uf": file(b"uf"), b"us": symlink(b"uf"), b"cf": file(b"up"), b"gone": WHITEOUT, b"ud/u": file(b"u"),
    b"md/up": file(b"up"), b"md/hidden": WHITEOUT, b"wd": directory(), b"wd/w": WHITEOUT,
    b"od": directory(opaque=True), b"od/own": file(b"own"), b"to/gone": WHITEOUT,
}  # fmt: skip
SOURCES = [b"lf", b"ls", b"cf", b"le", b"ld", b"md", b"wd", b"od", b"uf", b"us", b"ud", b"absent"]
TARGETS = [*SOURCES, b"gone", b"to/gone", b"to/new", b"to/kept"]
FORMS = {
    "redirect": UnionOptions(),
    "copy": UnionOptions(redirect_dir=RedirectDir.OFF),
    "file whiteouts": UnionOptions(redirect_dir=RedirectDir.OFF),
}


def natively(place: Path, tree: Tree, old: bytes, new: bytes, flags: int) -> tuple[int, Tree]:
    """What a rename does to the same tree on one filesystem: errno, and the tree then."""
    place.mkdir()
    root = os.fsencode(place)
    for path, what in tree.items():
        full = os.path.join(root, path)
        if what == "dir":
            os.mkdir(full)
        elif isinstance(what, tuple):
            os.symlink(what[1], full)
        else:
            with open(full, "xb") as out:
                out.write(what)  # type: ignore[arg-type]
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        dirs.rename(at, old, at, new, flags)
        return 0, tree_of(root)
    except OSError as error:
        return error.errno or -1, tree
    finally:
        os.close(at)


def attempt(box: Box, old: bytes, new: bytes, flags: int) -> int:
    try:
        box.rename(old, new, flags)
        return 0
    except OSError as error:
        return error.errno or -1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("flags", [0, RENAME_NOREPLACE, RENAME_EXCHANGE], ids=["plain", "noreplace", "exchange"])
@pytest.mark.parametrize("old", SOURCES)
def test_rename_is_as_on_one_filesystem(scratch: Path, old: bytes, flags: int, form: str) -> None:
    for new in TARGETS if form == "redirect" or old == b"md" else [b"gone", b"to/gone", b"wd"]:
        place = scratch / new.decode().replace("/", "-")
        place.mkdir()
        with Box(place, LOWER, BOTTOM, upper=UPPER, options=FORMS[form]) as box:
            box.marks.devices = form != "file whiteouts"
            expected = natively(place / "native", box.tree(), old, new, flags)
            numbers = box.numbers()
            assert (attempt(box, old, new, flags), box.tree()) == expected, new
            assert box.is_clean()
            after = box.numbers()
            if expected[0] == 0:
                assert after[new] == numbers[old]
            assert (box.again().tree(), box.numbers()) == (expected[1], after), new


@pytest.mark.parametrize("old", [b"lf", b"cf", b"ld", b"md", b"od", b"ud"])
def test_kernel_reads_what_a_rename_leaves(scratch: Path, require: Callable[..., None], old: bytes) -> None:
    require("kernel overlay")
    for form in ("redirect", "copy"):
        for new in (b"gone", b"to/gone", b"to/new", b"wd" if old[1:] == b"d" else b"uf"):
            place = scratch / f"{form}-{new.decode().replace('/', '-')}"
            place.mkdir()
            with Box(place, LOWER, BOTTOM, upper=UPPER, options=FORMS[form]) as box:
                box.rename(old, new)
                tree = box.tree()
                with overlay(place, [box.upper, *box.stack.lowers]) as merged:
                    assert tree_of(merged) == tree, (form, new)


@pytest.mark.parametrize("old", [b"uf", b"lf"])
def test_a_whiteout_that_a_user_asks_for_is_refused_as_the_kernel_does(scratch: Path, old: bytes) -> None:
    """It was made, but the next file at the name replaced it and nobody put it back."""
    with Box(scratch, LOWER, BOTTOM, upper=UPPER) as box:
        assert attempt(box, old, b"to/new", RENAME_WHITEOUT) == errno.EINVAL
        assert box.exists(old)


@pytest.mark.parametrize("flags", [8, RENAME_EXCHANGE | RENAME_NOREPLACE, RENAME_EXCHANGE | RENAME_WHITEOUT])
def test_flags_that_exclude_each_other(scratch: Path, flags: int) -> None:
    with Box(scratch, LOWER) as box:
        assert attempt(box, b"lf", b"new", flags) == errno.EINVAL


@pytest.mark.parametrize(
    ("name", "code"), [(b"x" * 256, errno.ENAMETOOLONG), (b".wh.x", errno.EPERM), (b"x" * 255, 0), (b"\xff\n", 0)]
)
def test_new_names(scratch: Path, name: bytes, code: int) -> None:
    with Box(scratch, LOWER) as box:
        assert attempt(box, b"ld", name, 0) == code


def test_read_only_union_renames_nothing(scratch: Path) -> None:
    with Box(scratch, LOWER, writable=False) as box:
        assert attempt(box, b"lf", b"new", 0) == errno.EROFS


def test_names_of_one_file_stay_apart(scratch: Path) -> None:
    with Box(scratch, {b"a": file(b"1"), b"d/b": hardlink(b"a")}) as box:
        box.rename(b"a", b"d/b")
        assert box.tree() == {b"a": b"1", b"d": "dir", b"d/b": b"1"}
        box.rename(b"d/b", b"c")
        box.write(b"c", b"2")
        assert box.again().tree() == {b"a": b"2", b"c": b"2", b"d": "dir"}
        assert box.ino(b"a") == box.ino(b"c")


def test_open_target_lives_on_without_a_name(scratch: Path) -> None:
    for target in (b"lf", b"uf", b"cf"):
        place = scratch / target.decode()
        place.mkdir()
        with Box(place, LOWER, upper=UPPER) as box:
            content = box.read(target)
            with box.opened(target) as node:
                box.rename(b"ld/a", target)
                assert os.pread(box.data_fd(node.ino), 100, 0) == content
                assert box.union.attributes(node.ino).st_nlink == 0
            assert box.is_clean()


def test_directory_that_was_replaced_shows_nothing_to_those_in_it(scratch: Path) -> None:
    with Box(scratch, LOWER, upper=UPPER) as box, box.node(b"wd") as node:
        box.rename(b"ld", b"wd")
        assert box.union.names(node.ino) == []
        assert box.union.attributes(node.ino).st_nlink == 0
        for act in (box.union.unlink, box.union.rmdir):
            with pytest.raises(FileNotFoundError):
                act(node.ino, b"x")
        with pytest.raises(FileNotFoundError):
            box.union.rename(1, b"lf", node.ino, b"x")


@pytest.mark.parametrize("exchange", [True, False])
def test_many_whiteouts_are_not_removed_while_a_rename_waits(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """100,000 of them stopped everybody for half a second."""
    lower = {b"full/%d" % number: file(b"") for number in range(FEW + 2)} | {b"moved/file": file(b"1")}
    emptied: list[int] = []
    real = dirs.empty

    def empty(fd: int) -> None:
        emptied.append(len(dirs.names(fd)))
        real(fd)

    monkeypatch.setattr(dirs, "empty", empty)
    if not exchange:
        monkeypatch.setattr(dirs, "move", _without_flags(dirs.move))
    with Box(scratch, lower, options=FORMS["redirect"]) as box:
        for name in lower:
            if name.startswith(b"full/"):
                box.unlink(name)
        emptied.clear()
        with box.node(b"full") as inside:
            steps = list(box.union.renaming(1, b"moved", 1, b"full"))
            assert emptied == ([] if exchange else [0])  # step by step, with turns for others
            assert len(steps) == (0 if exchange else 1)
            assert box.union.names(inside.ino) == []
        clear = box.union.clearing()
        assert (clear is not None) == exchange
        if clear is not None:
            clear()
        assert box.is_clean()
        expected = {b"full": "dir", b"full/file": b"1"}
        assert box.tree() == expected
        assert box.again().tree() == expected


def _without_flags(move: Callable[..., None]) -> Callable[..., None]:
    """Return a rename as a filesystem without flags has it."""

    def plain(at: int, name: bytes, to: int, new: bytes, flags: int = 0) -> None:
        if flags:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        move(at, name, to, new)

    return plain


def test_rename_then_create_again(scratch: Path) -> None:
    with Box(scratch, LOWER, BOTTOM) as box:
        for _ in range(3):
            box.rename(b"ld", b"moved")
            box.mkdir(b"ld")
            box.create(b"ld/new", b"n")
            box.rename(b"ld", b"old")
            box.rename(b"moved", b"ld")
            box.unlink(b"old/new")
            box.rmdir(b"old")
        assert box.tree(b"ld") == {b"a": b"a", b"s": "dir", b"s/b": b"b", b"s/deep": b"deep"}
        assert box.again().tree(b"ld") == {b"a": b"a", b"s": "dir", b"s/b": b"b", b"s/deep": b"deep"}


@pytest.mark.parametrize("form", ["redirect", "copy"])
@pytest.mark.parametrize("few", [FEW, 0])
def test_failing_rename_leaves_tables_and_disk_as_they_were(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, form: str, few: int
) -> None:
    """Each system call of a rename fails once; then everything is still there, and the next attempt succeeds."""
    monkeypatch.setattr(removal, "FEW", few)
    for step in range(1, 40):
        place = scratch / str(step)
        place.mkdir()
        with Box(place, LOWER, BOTTOM, upper=UPPER, options=FORMS[form]) as box:
            before = box.tree()
            with monkeypatch.context() as patch:
                failed = _fail_at(patch, step)
                code = attempt(box, b"md", b"wd", 0)
            assert code in (0, errno.ENOSPC) if failed() else code == 0, step  # a kept number is not worth failing for
            if code:
                assert box.tree() == before
                box.rename(b"md", b"wd")
            after = box.tree()
            assert b"md" not in after and after[b"wd/up"] == b"up"
            assert box.is_clean()
            assert box.again().tree() == after
            if not failed():
                return
    raise AssertionError("never got to the end")


def _fail_at(patch: pytest.MonkeyPatch, step: int) -> Callable[[], bool]:
    """Let the step-th changing system call fail with ENOSPC."""
    count = 0

    def wrap(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        return call

    for name in ("rename", "mkdir", "link", "setxattr", "chmod", "symlink"):
        patch.setattr(os, name, wrap(getattr(os, name)))
    patch.setattr(libc, "call", wrap(libc.call))
    return lambda: count >= step


def test_flattening_is_stepwise(scratch: Path) -> None:
    with Box(scratch, LOWER, BOTTOM, options=FORMS["copy"]) as box:
        union = box.union
        steps = union.renaming(1, b"ld", 1, b"new")
        assert isinstance(next(steps), Directory)  # to be listed
        first = next(step for step in steps if isinstance(step, File))
        assert first.name in (b"a", b"b", b"deep")
        assert box.tree(b"ld") == {b"a": b"a", b"s": "dir", b"s/b": b"b", b"s/deep": b"deep"}
        box.create(b"ld/between", b"1")
        box.unlink(b"ld/s/deep")
        for _ in steps:
            pass
        assert box.tree(b"new") == {b"a": b"a", b"between": b"1", b"s": "dir", b"s/b": b"b"}
        assert box.is_clean()
        assert box.again().tree(b"new") == {b"a": b"a", b"between": b"1", b"s": "dir", b"s/b": b"b"}
        assert marks_of(box.upper) == {b"ld": "whiteout", b"new": "opaque y", b"new/s": "opaque y"}


def test_flattening_that_is_given_up_forgets_everything(scratch: Path) -> None:
    with Box(scratch, LOWER, BOTTOM, options=FORMS["copy"]) as box:
        steps = box.union.renaming(1, b"ld", 1, b"new")
        for _ in range(3):
            next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert box.is_clean()
        assert box.again().tree(b"ld") == {b"a": b"a", b"s": "dir", b"s/b": b"b", b"s/deep": b"deep"}


def test_bare_redirect_below_a_flattened_directory_keeps_its_lowers(scratch: Path) -> None:
    """The kernel writes such redirects; with the parent opaque they led nowhere."""
    upper: Layer = {b"ld/t": directory(xattrs=(("trusted.overlay.redirect", b"s"),)), b"ld/s": WHITEOUT}
    with Box(scratch, LOWER, BOTTOM, upper=upper, options=FORMS["copy"]) as box:
        box.rename(b"ld", b"new")
        assert box.again().tree(b"new") == {b"a": b"a", b"t": "dir", b"t/b": b"b", b"t/deep": b"deep"}


def test_a_tree_that_is_deeper_than_the_stack_is_copied(scratch: Path) -> None:
    """It recursed: a chain of directories that a container made was an error to whoever renamed it."""
    depth = 1200
    with Box(scratch, {b"deep": directory()}, options=UnionOptions(redirect_dir=RedirectDir.OFF)) as box:
        step = os.open(box.layer(1) + b"/deep", os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(b"d", dir_fd=step)
            step, old = os.open(b"d", os.O_RDONLY, dir_fd=step), step
            os.close(old)
        os.close(step)
        box.again().rename(b"deep", b"other")
        assert box.names() == [b"other"]
        assert box.is_clean()
        step = os.open(box.upper + b"/other", os.O_RDONLY)
        for _ in range(depth):
            step, old = os.open(b"d", os.O_RDONLY, dir_fd=step), step
            os.close(old)
        assert os.listdir(step) == []
        os.close(step)
    place = os.open(scratch, os.O_RDONLY)
    dirs.empty(place)  # shutil.rmtree recurses
    os.close(place)
