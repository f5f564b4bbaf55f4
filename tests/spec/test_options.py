"""The -o strings of podman, mount(8), fuse-overlayfs and the kernel, as values."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, WrongUsage
from layerfs.model import Driver, Stack
from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import (
    MountOptions,
    generic_words,
    known_options,
    parse,
    request,
    without_effect,
)
from layerfs.sys.mounts import MountFlag
from layerfs.union.options import IdRange, OverrideStat, RedirectDir, UnionOptions
from tests.host import require
from tests.waiting import PATIENCE


def union(**fields: object) -> MountOptions:
    return MountOptions(union=UnionOptions(**fields))  # type: ignore[arg-type]


def attach(**fields: object) -> MountOptions:
    return MountOptions(attach=AttachOptions(**fields))  # type: ignore[arg-type]


def ignored(*words: bytes) -> MountOptions:
    return MountOptions(ignored=words)


MEANINGS = {
    b"": MountOptions(),
    b",,,": MountOptions(),
    b",,volatile,": union(volatile=True),
    b"lowerdir=a:b": MountOptions(lowers=(b"a", b"b")),
    b"lowerdir=:a::b:": MountOptions(lowers=(b"a", b"b")),
    b"lowerdir=": MountOptions(),
    b"lowerdir=a,lowerdir=b:c": MountOptions(lowers=(b"b", b"c")),
    b"lowerdir=a,lowerdir+=b:c,lowerdir+=d": MountOptions(lowers=(b"a", b"b:c", b"d")),
    rb"lowerdir=a\:b:c\,d:e\\f": MountOptions(lowers=(b"a:b", b"c,d", rb"e\f")),
    b"lowerdir=\xff\n=x": MountOptions(lowers=(b"\xff\n=x",)),
    rb"upperdir=u\,p,workdir=w\:o": MountOptions(upper=b"u,p", work=b"w:o"),
    b"uidmapping=:0:1:1001:5:70:8": union(uid_map=(IdRange(1, 0, 1001), IdRange(70, 5, 8))),
    rb"gidmapping=0:10:100\,100:10000:2000": union(gid_map=(IdRange(10, 0, 100), IdRange(10000, 100, 2000))),
    b"uidmapping=": union(),
    b"squash_to_root": union(squash_uid=0, squash_gid=0),
    b"squash_to_uid=7,squash_to_root": union(squash_uid=7, squash_gid=0),
    b"squash_to_gid=8": union(squash_gid=8),
    b"xattr_permissions=0": union(),
    b"xattr_permissions=1": union(override_stat=OverrideStat.PRIVILEGED),
    b"xattr_permissions=2": union(override_stat=OverrideStat.CONTAINERS),
    b"static_nlink": union(static_nlink=True),
    b"static_nlink=1": union(static_nlink=True),
    b"noacl": union(acl=False),
    b"noacl,acl": union(),
    b"fsync=0": union(fsync=False),
    b"fsync=0,fsync=1": union(),
    b"xino": union(),
    b"xino=on": union(),
    b"xino=auto": union(),
    b"xino=off": union(xino=False),
    b"redirect_dir=on": union(redirect_dir=RedirectDir.ON),
    b"redirect_dir=off": union(redirect_dir=RedirectDir.OFF),
    b"redirect_dir=follow": union(redirect_dir=RedirectDir.OFF),
    b"redirect_dir=nofollow": union(redirect_dir=RedirectDir.NOFOLLOW),
    b"timeout=1.5": union(timeout=1.5),
    b"timeout=0": union(timeout=0.0),
    b"writeback=0": union(writeback=False),
    b"allow_other": attach(allow_other=True),
    b"fsname=foo,subtype=bar": attach(source=b"foo", subtype=b"bar"),
    b"max_read=65536": attach(max_read=65536),
    b"unchecked": attach(unchecked=True),
    b"lane": attach(lane=True),
    b"lane,nolane": attach(lane=False),
    b"offset=188392": MountOptions(offset=188_392),
    b"offset=1,offset=0": MountOptions(),
    b"ro": attach(flags=MountFlag.RDONLY),
    b"ro,rw": MountOptions(),
    b"nosuid,nodev,noexec,noatime,nodiratime": attach(
        flags=MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC | MountFlag.NOATIME | MountFlag.NODIRATIME
    ),
    b"nosuid,nodev,noexec,sync,suid,dev,exec,async": MountOptions(),
    b"relatime,strictatime,lazytime,dirsync,sync": attach(
        flags=MountFlag.RELATIME
        | MountFlag.STRICTATIME
        | MountFlag.LAZYTIME
        | MountFlag.DIRSYNC
        | MountFlag.SYNCHRONOUS
    ),
    b"driver=kernel": MountOptions(driver=Driver.KERNEL),
    b"driver=auto": MountOptions(driver=Driver.AUTO),
    b"debug": MountOptions(debug=True),
    b"defaults": MountOptions(),
    b"_netdev,nofail,noauto,user": ignored(b"_netdev", b"nofail", b"noauto", b"user"),
    b"x-systemd.automount,x-initrd.mount=1,comment=me": ignored(
        b"x-systemd.automount", b"x-initrd.mount=1", b"comment=me"
    ),
    b'context="u:o:t:s0:c1,c2",ro': MountOptions(
        ignored=(b'context="u:o:t:s0:c1,c2"',), attach=AttachOptions(flags=MountFlag.RDONLY)
    ),
    b"default_permissions,clone_fd,noxattrs,threaded=0": ignored(
        b"default_permissions", b"clone_fd", b"noxattrs", b"threaded=0"
    ),
    b"ino32_t,use_ino,auto_unmount,max_threads=4,attr_timeout=1.5,sync=0": ignored(
        b"ino32_t", b"use_ino", b"auto_unmount", b"max_threads=4", b"attr_timeout=1.5", b"sync=0"
    ),
    b"nfs_export=off,verity=off": ignored(b"nfs_export=off", b"verity=off"),
    b"index=on": union(index=True),
    b"index=on,index=off": union(index=False),
    b"metacopy=on": union(metacopy=True),
    b"metacopy=on,metacopy=off": union(),
    b"userxattr": union(userxattr=True),
}


@pytest.mark.parametrize("text", MEANINGS, ids=lambda text: text.decode("latin-1") or "nothing")
def test_an_option_string_means(text: bytes) -> None:
    assert parse([text]) == MEANINGS[text]


REFUSED = {
    b"lazytme": 'unknown mount option "lazytme" (hint: did you mean "lazytime"?)',
    b"frobnicate=3": 'unknown mount option "frobnicate" (hint: layerfs mount -o help lists them)',
    b"lower=a": 'unknown mount option "lower" (hint: did you mean "lowerdir"?)',
    b"noatime=1": 'bad mount option "noatime=1" (hint: noatime takes no value)',
    b"plugins=a.so": "plugins",
    b"allow_root": "allow_other",
    b"remount": "remount",
    b"xino=maybe": 'bad mount option "xino=maybe" (hint: xino takes on or off or auto)',
    b"metacopy=maybe": "metacopy=maybe",
    b"userxattr=2": "userxattr=2",
    b"index=maybe": "index=maybe",
    b"index": "index",
    b"nfs_export=on": "nfs_export=on",
    b"timeout=-1": "timeout=-1",
    b"timeout=nan": "timeout=nan",
    b"timeout": "timeout",
    b"fsync=2": "fsync=2",
    b"xattr_permissions=3": "xattr_permissions=3",
    b"squash_to_uid=4294967295": "squash_to_uid",
    b"squash_to_uid=": "squash_to_uid",
    b"uidmapping=0:1": "ON-DISK:SHOWN:COUNT",
    b"uidmapping=0:x:1": "ON-DISK:SHOWN:COUNT",
    b"gidmapping=0:-1:1": "ON-DISK:SHOWN:COUNT",
    b"static_nlink=2": "static_nlink=2",
    b"upperdir=": "upperdir",
    b"lowerdir+": "lowerdir+",
    b"driver=ext4": "auto or kernel or fuse",
    b"max_read=1": "max_read=1",
    b"offset=-1": "offset=-1",
    b"offset=9223372036854775808": "offset=9223372036854775808",
    b"offset": "offset",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text.decode())
def test_a_refused_option_is_named(text: bytes) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse([b"ro," + text])
    assert REFUSED[text] in str(refusal.value)


def test_several_strings_are_one_and_the_last_word_wins() -> None:
    assert parse([b"ro,timeout=1", b"rw,timeout=2"]) == union(timeout=2.0)


def test_every_known_option_is_understood_or_asks_for_its_value() -> None:
    for name in known_options():
        try:
            parse([name.encode()])
        except InvalidArgument as refusal:
            assert refusal.message == f'bad mount option "{name}"'


def test_paths_are_taken_from_the_working_directory_and_keep_their_dots_and_symlinks() -> None:
    wanted = request(parse([b"lowerdir=../a:/b/:l/LINK,upperdir=u,workdir=./w"]), b"m/", b"/graph/overlay")
    assert wanted.mountpoint == b"/graph/overlay/m"
    assert wanted.stack == Stack(
        (b"/graph/overlay/../a", b"/b", b"/graph/overlay/l/LINK"), b"/graph/overlay/u", b"/graph/overlay/./w"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no layers"),
        (b"lowerdir=::", "no layers"),
        (b"lowerdir=a,upperdir=u", "upperdir without workdir"),
        (b"lowerdir=a,workdir=w", "workdir without upperdir"),
    ],
)
def test_an_impossible_stack_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        request(parse([text]), b"m", b"/")


@pytest.mark.parametrize(
    ("text", "read_only"),
    [(b"lowerdir=a", True), (b"lowerdir=a,upperdir=u,workdir=w", False), (b"lowerdir=a,upperdir=u,workdir=w,ro", True)],
)
def test_a_mount_is_read_only_without_an_upper_or_when_told(text: bytes, read_only: bool) -> None:
    assert request(parse([text]), b"m", b"/").read_only is read_only


def test_flags_are_shown_as_the_words_they_came_from() -> None:
    assert generic_words(parse([b"nosuid,noexec,ro"]).attach.flags) == ("ro", "nosuid", "noexec")
    assert generic_words(MountFlag.NOEXEC) == ("rw", "noexec")


@pytest.mark.mounts
def test_ids_are_mapped_in_the_direction_of_fuse_overlayfs(scratch: Path) -> None:
    """Mount with its own program and see which of the three numbers is on disk and which is shown."""
    import subprocess

    require("root", "fuse", "/usr/bin/fuse-overlayfs")
    lower, mountpoint = scratch / "lower", scratch / "mnt"
    for place in (lower, mountpoint):
        place.mkdir()
    (lower / "file").touch()
    os.chown(lower / "file", 3, 3)
    text = f"lowerdir={lower},uidmapping=0:1000:10,gidmapping=0:2000:10"
    command: list[str | Path] = ["/usr/bin/fuse-overlayfs", "-o", text, mountpoint]
    subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True)
    shown = (mountpoint / "file").stat()
    (uids,), (gids,) = parse([text.encode()]).union.uid_map, parse([text.encode()]).union.gid_map
    assert (shown.st_uid, shown.st_gid) == (3 - uids.outside + uids.inside, 3 - gids.outside + gids.inside)


def test_a_mount_without_checks_is_fuse_s() -> None:
    options = parse([b"unchecked,lowerdir=/a"])
    wanted = request(options, b"/m", b"/")
    assert (wanted.driver, wanted.union.acl) == (Driver.FUSE, False)
    with pytest.raises(InvalidArgument, match="the driver kernel"):
        request(parse([b"unchecked,lowerdir=/a,driver=kernel"]), b"/m", b"/")


def test_an_upper_that_is_only_read_is_the_topmost_layer() -> None:
    """It may be the upper of a mount that is in use, and a work directory is of no account."""
    asked = request(parse([b"lowerdir=b:c,upperdir=a,workdir=w,ro"]), b"m", b"/cwd")
    assert asked.stack == Stack((b"/cwd/a", b"/cwd/b", b"/cwd/c"))


def test_what_has_no_effect_is_told_but_not_what_is_for_mount_alone() -> None:
    given = parse([b"ino32_t,_netdev,x-gvfs-show,max_threads=4,noxattrs,sync=1,default_permissions"]).ignored
    assert without_effect(given) == ["ino32_t", "max_threads", "sync"]


@pytest.mark.parametrize(("lower", "mountpoint"), [(b"", b"/mnt"), (b"/lower", b"")])
def test_an_empty_path_is_not_the_working_directory(lower: bytes, mountpoint: bytes) -> None:
    """`layerfs mount "$UNSET" mnt` showed whatever the caller stood in."""
    with pytest.raises(WrongUsage, match="a path is empty"):
        request(MountOptions(lowers=(lower,)), mountpoint, b"/home")
