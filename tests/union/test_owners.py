"""Ownership: id maps, squashing, and owner and mode kept in an xattr, as fuse-overlayfs keeps them too."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerfs.union.attrs import Change
from layerfs.union.mutate import Caller
from layerfs.union.options import IdRange, OverrideStat, UnionOptions
from layerfs.union.owners import NO_ID, Owners
from layerfs.union.setid import Who
from tests.host import find_person
from tests.oracle.trees import Kind, Node, directory, file
from tests.union.box import Box, as_person

KEPT = UnionOptions(override_stat=OverrideStat.CONTAINERS)
NAME = "user.containers.override_stat"


def shown(box: Box, path: bytes) -> tuple[int, int, str]:
    st = box.stat(path)
    return st.st_uid, st.st_gid, stat.filemode(st.st_mode)


def test_id_map_works_both_ways(scratch: Path) -> None:
    options = UnionOptions(uid_map=(IdRange(0, 1000, 10),), gid_map=(IdRange(0, 2000, 10), IdRange(50, 50, 1)))
    layer = {b"f": file(uid=1000, gid=2005), b"out": file(uid=5, gid=50)}
    with Box(scratch, layer, options=options) as box:
        assert shown(box, b"f") == (0, 5, "-rw-r--r--")
        assert shown(box, b"out") == (NO_ID, 50, "-rw-r--r--")
        box.create(b"new", caller=Caller(3, 4, 0))
        box.change(b"f", Change(uid=7))
        assert shown(box, b"new") == (3, 4, "-rw-r--r--")
        st = os.stat(os.path.join(box.upper, b"new"))
        assert (st.st_uid, st.st_gid) == (1003, 2004)
        st = os.stat(os.path.join(box.upper, b"f"))
        assert (st.st_uid, st.st_gid) == (1007, 2005)


def test_squashed_ids_are_shown_and_the_real_ones_stay(scratch: Path) -> None:
    with Box(scratch, {b"f": file(uid=7, gid=8)}, options=UnionOptions(squash_uid=0, squash_gid=1)) as box:
        box.write(b"f", b"x")
        assert shown(box, b"f") == (0, 1, "-rw-r--r--")
        assert os.stat(os.path.join(box.upper, b"f")).st_uid == 7


@pytest.mark.parametrize("name", [b"f", b"kept"])
def test_an_open_file_of_a_lower_keeps_its_owner_when_its_name_goes(scratch: Path, name: bytes) -> None:
    """It was shown as its layer has it."""
    kept = Node(Kind.FILE, mode=0o600, xattrs=((NAME, b"7:8:0640"),))
    layer = {b"f": file(mode=0o640, uid=1000, gid=1000), b"kept": kept}
    maps = (IdRange(7, 1000, 1), IdRange(3, 7, 1)), (IdRange(8, 1000, 1), IdRange(4, 8, 1))
    with Box(scratch, {}, layer, options=UnionOptions(uid_map=maps[0], gid_map=maps[1])) as box:
        box.union.trees[2].override = NAME
        with box.node(name) as node, box.opened(name):
            before = box.stat(name)
            box.unlink(name)
            after = box.union.attributes(node.ino)
            assert [(st.st_uid, st.st_gid, st.st_mode) for st in (after,)] == [
                (before.st_uid, before.st_gid, before.st_mode)
            ]
            assert (after.st_nlink, after.st_uid) == (0, 7 if name == b"f" else 3)


@pytest.mark.parametrize("override", [OverrideStat.CONTAINERS, OverrideStat.PRIVILEGED])
def test_owner_and_mode_are_kept_beside_everything(scratch: Path, override: OverrideStat) -> None:
    """A FIFO carries no user.* xattrs: making one, or copying one up, failed."""
    layer = {b"f": file(b"f", 0o4750, uid=3, gid=4), b"d/x": file(), b"p": Node(Kind.FIFO, mode=0o640)}
    with Box(scratch, layer, options=UnionOptions(override_stat=override)) as box:
        box.create(b"new", b"n", 0o600, Caller(5, 6, 0))
        box.mkdir(b"d/sub", 0o2711, Caller(5, 6, 0))
        box.mknod(b"d/fifo", stat.S_IFIFO | 0o604)
        box.change(b"p", Change(mode=0o600))
        box.change(b"f", Change(mtime_ns=1))
        box.change(b"d", Change(uid=9, mode=0o700))
        expected = {
            b"new": (5, 6, "-rw-------"), b"d/sub": (5, 6, "drwx--x--x"), b"d/fifo": (0, 0, "prw----r--"),
            b"p": (0, 0, "prw-------"), b"f": (3, 4, "-rwsr-x---"), b"d": (9, 0, "drwx------"),
        }  # fmt: skip
        assert {path: shown(box, path) for path in expected} == expected
        box.again()
        assert {path: shown(box, path) for path in expected} == expected
        assert stat.S_IMODE(os.stat(os.path.join(box.upper, b"new")).st_mode) == 0o755
        assert not any(b"override" in name for name in _xattrs(box, b"new"))


def _xattrs(box: Box, path: bytes) -> list[bytes]:
    with box.node(path) as node:
        return box.union.list_xattrs(node.ino)


def test_upper_begun_with_overrides_goes_on_with_them(scratch: Path) -> None:
    """Mounted without the option, chmod changed the mode on disk, which nobody looks at."""
    with Box(scratch, {}, options=KEPT) as box:
        box.create(b"f", b"", 0o600, Caller(5, 6, 0))
        box.options = UnionOptions()
        box.again().change(b"f", Change(mode=0o444, uid=8))
        assert shown(box, b"f") == (8, 6, "-r--r--r--")


def test_setuid_kept_in_the_xattr_goes_when_others_write(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"data", 0o6755)}, options=KEPT) as box:
        with box.opened(b"f", os.O_RDWR) as node:
            box.union.drop_sxid(node.ino, Who.MEMBER)
        assert shown(box, b"f") == (0, 0, "-rwxr-xr-x")
        box.change(b"f", Change(mode=0o4755))
        box.change(b"f", Change(size=1, who=Who.MEMBER))
        assert shown(box, b"f") == (0, 0, "-rwxr-xr-x")
        box.change(b"f", Change(mode=0o6755))
        box.change(b"f", Change(uid=1))
        assert shown(box, b"f") == (1, 0, "-rwxr-xr-x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"5:6:4711", (5, 6, "-rws--x--x")),
        (b"5:6:100644", (5, 6, "-rw-r--r--")),
        (b"5:6:600:pipe", (5, 6, "prw-------")),
        (b"5:6:600:char-1-3", (5, 6, "crw-------")),
        (b"", (0, 0, "-rw-r--r--")),
        (b"x:6:644", (0, 0, "-rw-r--r--")),
        (b"5:6:8", (0, 0, "-rw-r--r--")),
        (b"99999999999:6:644", (0, 0, "-rw-r--r--")),
        (b"4294967295:6:644", (0, 0, "-rw-r--r--")),
        (b"5:6:" + b"7" * 5000, (0, 0, "-rw-r--r--")),
        (b"5:6:600:char-99999999999-1", (0, 0, "-rw-r--r--")),
        (b"5:6:600:char-1", (0, 0, "-rw-r--r--")),
        (b"5:6:xyz", (0, 0, "-rw-r--r--")),
    ],
)
def test_override_of_a_lower_layer(scratch: Path, value: bytes, expected: tuple[int, int, str]) -> None:
    """A malformed one was a ValueError, so the file answered EIO."""
    with Box(scratch, {b"f": file(xattrs=((NAME, value),))}) as box:
        os.setxattr(box.layer(1), NAME, b"0:0:755")
        assert shown(box.again(), b"f") == expected


def test_what_is_owned_by_an_id_without_a_mapping_is_nobodys_and_nothing_is_given_to_one(scratch: Path) -> None:
    """It was shown as 65534's, who is a real user and could read it, and what was given away became his."""
    options = UnionOptions(uid_map=(IdRange(0, 0, 1000),), gid_map=(IdRange(0, 0, 1000),))
    with Box(scratch, {b"f": file(uid=5000, gid=5000)}, options=options) as box:
        assert shown(box, b"f") == (NO_ID, NO_ID, "-rw-r--r--")
        refused: list[Callable[[], object]] = [
            lambda: box.change(b"f", Change(uid=70000)),
            lambda: box.change(b"f", Change(gid=65534)),
            lambda: box.create(b"new", caller=Caller(5000, 0, 0)),
            lambda: box.mkdir(b"new", caller=Caller(0, 1000, 0)),
        ]
        for change in refused:
            with pytest.raises(OSError, match="too large") as caught:
                change()
            assert caught.value.errno == errno.EOVERFLOW
        assert box.names() == [b"f"]
        box.write(b"f", b"x")
        assert os.stat(os.path.join(box.upper, b"f")).st_uid == 5000


def test_who_serves_the_mount_owns_what_it_makes_though_it_has_no_mapping(scratch: Path) -> None:
    """podman makes /etc/mtab as itself in a container whose ids begin at 1 of its own: it was refused."""
    options = UnionOptions(uid_map=(IdRange(1, 0, 2000),), gid_map=(IdRange(1, 0, 2000),))
    with Box(scratch, {b"f": file()}, options=options) as box:
        box.create(b"mtab", caller=Caller(os.geteuid(), os.getegid(), 0))
        assert shown(box, b"mtab") == (1, 1, "-rw-r--r--")
        assert os.stat(os.path.join(box.upper, b"mtab")).st_uid == os.geteuid()


# Who owns a layer's root and the file in it, their modes on disk, whether overrides were asked for; is one believed?
BELIEF = {
    "root's": ((0, 0o755), (0, 0o755), False, True),
    "root's, the file a user's": ((0, 0o755), (1001, 0o755), False, False),
    "a user's": ((1001, 0o755), (1001, 0o755), False, False),
    "a user's, the file root's": ((1001, 0o755), (0, 0o755), False, False),
    "root's, but everybody may write to it": ((0, 0o777), (0, 0o755), False, False),
    "root's, but everybody may write to the file": ((0, 0o755), (0, 0o666), False, False),
    "asked for": ((1001, 0o755), (1001, 0o666), True, True),
}


@pytest.mark.parametrize("where", ["lower", "upper"])
@pytest.mark.parametrize("name", [NAME, "user.fuseoverlayfs.override_stat"])
@pytest.mark.parametrize("case", BELIEF)
def test_override_counts_where_only_root_and_we_may_write_it(
    scratch: Path, require: Callable[..., None], case: str, name: str, where: str
) -> None:
    """Whoever owns a file may set user.* on it: a layer's author made his program setuid root, and devices."""
    require("root", "user xattrs")
    (root, root_mode), (owner, mode), asked, believed = BELIEF[case]
    layer = {b"f": Node(Kind.FILE, mode=mode, uid=owner, gid=0, xattrs=((name, b"0:0:4711"),))}
    options = UnionOptions(override_stat=OverrideStat.CONTAINERS) if asked else UnionOptions()
    layers: dict[str, Any] = {"upper": layer} if where == "upper" else {}
    with Box(scratch, {} if layers else layer, **layers) as box:
        top = box.upper if layers else box.layer(1)
        os.setxattr(top, name, b"0:0:755")
        os.chown(top, root, 0)
        os.chmod(top, root_mode)
        box.options = options
        box.again()
        assert (shown(box, b"f")[2] == "-rws--x--x") == believed
        assert (shown(box, b"f")[0] == 0) == (believed or owner == 0)


def test_no_mapping_is_the_identity() -> None:
    assert Owners(UnionOptions()).identity
    assert Owners(UnionOptions()).outside(-1, 5) == (-1, 5)


@pytest.mark.mounts
def test_fuse_overlayfs_and_we_go_on_with_each_others_uppers(scratch: Path, require: Callable[..., None]) -> None:
    """Version 1.10 has another name for the xattr than later ones: the one that is there already counts."""
    require("root", "person", "fuse", "/usr/bin/fuse-overlayfs", "user xattrs")
    person = find_person(scratch / "home")
    person.owns(scratch)
    with as_person(person.uid, person.gid):
        low = Node(Kind.FILE, b"low", uid=person.uid, gid=person.gid)
        box = Box(scratch, {b"low": low}, writable=False, owner=(person.uid, person.gid))
        box.close()
    box.stack = type(box.stack)(box.stack.lowers, box.upper, box.work)
    box.options = KEPT
    stack = f"lowerdir={scratch}/l1,upperdir={scratch}/upper,workdir={scratch}/work,xattr_permissions=2"
    merged = scratch / "home" / "merged"
    person.owns(merged)

    def beside(command: str) -> str:
        mount = f"/usr/bin/fuse-overlayfs -o {stack} {merged} && cd {merged} && {command}"
        script = f"{mount}; R=$?; cd /; fusermount3 -u -z {merged}; exit $R"
        return person.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]).stdout

    beside("echo 1 > theirs && chmod 4711 theirs && chmod 600 low")
    with as_person(person.uid, person.gid):
        box.union = box._open()
        with box:
            assert shown(box, b"theirs") == (0, 0, "-rws--x--x")
            assert shown(box, b"low")[2] == "-rw-------"
            box.create(b"ours", b"1", 0o640, Caller(0, 0, 0))
            box.mkdir(b"dir", 0o750, Caller(0, 0, 0))
            box.change(b"theirs", Change(mode=0o604))
    assert beside("stat -c '%u %g %a' ours dir theirs") == "0 0 640\n0 0 750\n0 0 604\n"


@pytest.mark.mounts
def test_kept_owner_is_refused_where_nothing_can_keep_it(scratch: Path, require: Callable[..., None]) -> None:
    require("root")
    from layerfs.errors import Unsupported

    place = scratch / "ramfs"
    place.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(place)], check=True)
    with pytest.raises(Unsupported, match="cannot carry user"):
        Box(place, {b"d": directory()}, options=KEPT)


def test_override_of_another_object_does_not_count(scratch: Path, require: Callable[..., None]) -> None:
    """Whose the object is and what its xattr says were asked of a name one after the other."""
    require("root", "user xattrs")
    layer = {b"f": file(b"sh", 0o755), b"forged": Node(Kind.FILE, uid=1001, xattrs=((NAME, b"0:0:4755"),))}
    with Box(scratch, {}, upper=layer) as box:
        os.setxattr(box.upper, NAME, b"0:0:755")
        box.again()
        upper = box.union.trees[0]
        st = upper.lstat(upper.root(), b"f")
        os.rename(box.upper + b"/forged", box.upper + b"/f")
        with pytest.raises(OSError, match="Stale"):
            box.ov.owners.show(upper, upper.reach(upper.root(), b"f"), st)


def test_an_id_that_the_user_namespace_does_not_know_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "chown")

    monkeypatch.setattr("layerfs.sys.target.chown", refuse)
    for call in (Owners(UnionOptions()).give, Owners(UnionOptions()).change):
        with pytest.raises(OSError, match="too large") as caught:
            call(0, 5, 5)
        assert caught.value.errno == errno.EOVERFLOW
