"""Point 4: st_ino is unique, stays over copy-up, rename and remount, and is what readdir says; links are counted."""

import os

from tests.oracle.trees import Kind, Layer, Node, directory, file, hardlink, symlink
from tests.oracle.world import check_numbers
from tests.semantics.mounted import Mounted, append, opened, read, root_only, write

LOWERS: tuple[Layer, ...] = (
    {b"top": file(b"1"), b"d/x": file(b"x"), b"l": symlink(b"top"), b"p": Node(Kind.FIFO)},
    {b"mid": file(b"2"), b"d/y": file(b"y"), b"sub/deep/f": file(b"f"), b"sub/l": symlink(b"deep/f")},
)


def numbers(union: Mounted) -> dict[bytes, tuple[int, int]]:
    tree = union.tree()
    check_numbers(tree)
    return tree.numbers


def test_numbers_stay_over_copy_up_and_remount(union: Mounted) -> None:
    union.mount(*LOWERS)
    before = numbers(union)
    for name in (b"top", b"mid", b"d/y", b"sub/deep/f"):
        append(union / name, b"+")
    for name in (b"l", b"p", b"sub/l", b"d"):
        os.utime(union / name, ns=(1, 1), follow_symlinks=False)
    assert numbers(union) == before
    union.remount()
    assert numbers(union) == before


def test_numbers_stay_over_rename_and_remount(union: Mounted) -> None:
    union.mount(*LOWERS)
    write(union / b"made", b"new")
    os.symlink(b"x", union / b"madelink")
    before = numbers(union)
    moves = [(b"top", b"top2"), (b"l", b"l2"), (b"p", b"d/p2"), (b"d", b"d2"), (b"sub", b"sub2"), (b"made", b"made2")]
    for old, new in moves:
        os.rename(union / old, union / new)
    now = numbers(union)
    pairs = [(b"top", b"top2"), (b"l", b"l2"), (b"p", b"d2/p2"), (b"d", b"d2"), (b"d/x", b"d2/x"), (b"made", b"made2")]
    pairs += [(b"sub", b"sub2"), (b"sub/deep", b"sub2/deep"), (b"sub/deep/f", b"sub2/deep/f"), (b"madelink",) * 2]
    assert [before[old] for old, _ in pairs] == [now[new] for _, new in pairs]
    union.remount()
    assert numbers(union) == now


@root_only
def test_layers_of_different_filesystems_never_share_a_number(union: Mounted) -> None:
    """Two fresh tmpfs give the same st_ino to their first files; a loader would take them for one library."""
    for index in range(3):
        place = union.base + b"/fs%d" % index
        os.mkdir(place)
        assert os.system(f"mount -t tmpfs none {os.fsdecode(place)}") == 0
        os.mkdir(place + b"/l")
        for name in (b"one", b"two", b"three"):
            write(place + b"/l/%s%d" % (name, index), name)
        union.lowers.append(place + b"/l")
    union.mount()
    before = numbers(union)
    assert len({ino for ino, _ in before.values()}) == 9
    assert len({os.stat(union / name).st_dev for name in before}) == 1
    for name in before:
        append(union / name, b"+")
    assert numbers(union) == before
    union.remount()
    assert numbers(union) == before


def test_dot_dot_and_dot_have_the_directories_numbers(union: Mounted) -> None:
    union.mount(*LOWERS)
    assert os.stat(union / b"sub/deep/..").st_ino == os.stat(union / b"sub").st_ino
    assert os.stat(union / b"sub/.").st_ino == os.stat(union / b"sub").st_ino
    os.rename(union / b"sub/deep", union / b"d/deep")
    assert os.stat(union / b"d/deep/..").st_ino == os.stat(union / b"d").st_ino


def test_upper_links_are_counted(union: Mounted) -> None:
    union.mount(*LOWERS)
    write(union / b"a", b"1")
    os.link(union / b"a", union / b"d/b")
    os.link(union / b"mid", union / b"sub/mid2")
    for _ in range(2):
        assert os.stat(union / b"a").st_nlink == os.stat(union / b"d/b").st_nlink == 2
        assert os.path.samefile(union / b"a", union / b"d/b") and os.path.samefile(union / b"mid", union / b"sub/mid2")
        assert os.stat(union / b"mid").st_nlink == 2
        union.remount()
    append(union / b"d/b", b"2")
    append(union / b"sub/mid2", b"+")
    assert read(union / b"a") == b"12" and read(union / b"mid") == b"2+"
    os.unlink(union / b"a")
    assert os.stat(union / b"d/b").st_nlink == 1


LINKED: Layer = {b"a": file(b"one"), b"b": hardlink(b"a"), b"d/c": hardlink(b"a"), b"other": file(b"other")}


def test_a_write_through_one_lower_link_is_seen_through_all(union: Mounted) -> None:
    union.mount(LINKED)
    before = numbers(union)
    assert [os.stat(union / name).st_nlink for name in (b"a", b"b", b"d/c")] == [3, 3, 3]
    append(union / b"b", b"+two")
    for _ in range(2):
        assert [read(union / name) for name in (b"a", b"b", b"d/c")] == [b"one+two"] * 3
        assert [os.stat(union / name).st_nlink for name in (b"a", b"b", b"d/c")] == [3, 3, 3]
        assert numbers(union) == before
        union.remount()
    append(union / b"d/c", b"+three")
    assert read(union / b"a") == b"one+two+three"


def test_metadata_of_one_lower_link_is_that_of_all(union: Mounted) -> None:
    union.mount(LINKED)
    with opened(union / b"a", os.O_RDONLY) as reader:
        os.chmod(union / b"d/c", 0o600)
        assert os.fstat(reader).st_mode == os.stat(union / b"b").st_mode == 0o100600
        append(union / b"b", b"!")
        assert os.pread(reader, 10, 0) == b"one!"
    union.remount()
    assert os.stat(union / b"a").st_mode == 0o100600


def test_unlinking_a_lower_link_counts_the_others_down(union: Mounted) -> None:
    union.mount(LINKED)
    os.unlink(union / b"a")
    assert [os.stat(union / name).st_nlink for name in (b"b", b"d/c")] == [2, 2]
    os.rename(union / b"other", union / b"b")
    assert os.stat(union / b"d/c").st_nlink == 1
    append(union / b"d/c", b"+")
    union.remount()
    assert read(union / b"d/c") == b"one+" and read(union / b"b") == b"other"
    assert os.stat(union / b"d/c").st_nlink == 1 and not os.path.lexists(union / b"a")


def test_lower_links_stay_one_file_when_renamed_or_linked(union: Mounted) -> None:
    union.mount(LINKED)
    os.rename(union / b"a", union / b"d/moved")
    os.link(union / b"b", union / b"fourth")
    names = (b"d/moved", b"b", b"d/c", b"fourth")
    append(union / b"d/c", b"+")
    for _ in range(2):
        assert [read(union / name) for name in names] == [b"one+"] * 4
        assert [os.stat(union / name).st_nlink for name in names] == [4] * 4
        assert len({os.stat(union / name).st_ino for name in names}) == 1
        union.remount()


def test_links_below_a_renamed_directory_stay_one_file(union: Mounted) -> None:
    union.mount(LINKED, {b"d/x": file()})
    os.rename(union / b"d", union / b"e")
    append(union / b"a", b"+")
    assert read(union / b"e/c") == b"one+"
    union.remount()
    assert read(union / b"e/c") == read(union / b"b") == b"one+"


def test_renaming_one_link_over_another_does_nothing(union: Mounted) -> None:
    union.mount(LINKED)
    write(union / b"new", b"1")
    os.link(union / b"new", union / b"new2")
    os.rename(union / b"new", union / b"new2")
    os.rename(union / b"a", union / b"b")
    assert union.names() == [b"a", b"b", b"d", b"new", b"new2", b"other"]


def test_open_unlinked_files_have_no_link(union: Mounted) -> None:
    union.mount({b"lower": file(b"lower"), b"dir": directory()})
    write(union / b"upper", b"upper")
    for name in (b"lower", b"upper"):
        with opened(union / name, os.O_RDWR) as fd:
            os.unlink(union / name)
            assert os.fstat(fd).st_nlink == 0
            os.pwrite(fd, b"LO", 0)
            os.fchmod(fd, 0o600)
            assert os.pread(fd, 5, 0) == b"LO" + name[2:]
    with opened(union / b"lower", os.O_RDWR | os.O_CREAT) as fd:
        assert os.fstat(fd).st_nlink == 1 and os.fstat(fd).st_size == 0
