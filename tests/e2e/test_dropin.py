"""fuse-overlayfs's own documented command lines (its manual page and README), with the program's name replaced."""

import pytest

from .people import Kind
from .stage import LAYERFS, LAYERFS_MOUNT, Stage, Union

NEEDS = ("fuse-overlayfs",)

COMMANDS = {"layerfs mount": (LAYERFS, "mount"), "layerfs-mount": (LAYERFS_MOUNT,)}
# fuse-overlayfs(1), "OPTIONS"; ids as they stand on disk and as they are shown.
OPTIONS = {
    "squash_to_root": "0:0",
    "squash_to_uid=1234,squash_to_gid=2345": "1234:2345",
    "uidmapping={uid}:500:10,gidmapping={gid}:600:10": "500:600",
    "uidmapping=:{uid}:500:10:5000:7000:1,gidmapping=:{gid}:600:10": "500:600",
    "static_nlink": "{uid}:{gid}",
    "noacl,xino=off,redirect_dir=off,volatile,fsync=0,timeout=1": "{uid}:{gid}",
    ",,volatile,": "{uid}:{gid}",
}


def union(stage: Stage, writable: bool = True) -> Union:
    lower2 = stage.layer("lower2", {"file": "lower2\n", "below": "lower2\n"})
    return stage.stack(stage.layer("lower1", {"file": "lower1\n"}), lower2, writable=writable)


@pytest.mark.parametrize("command", COMMANDS)
def test_lowers_upper_and_work_by_options(stage: Stage, command: str) -> None:
    wanted = union(stage)
    stage.run(*COMMANDS[command], "-o", wanted.options, wanted.merged)
    stage.attached.append(wanted)
    assert stage.sh("cat file below; rm below; echo new > file; mkdir dir", cwd=wanted.merged) == "lower1\nlower2\n"
    stage.detach(wanted)
    stage.run(*COMMANDS[command], "-o", wanted.options, wanted.merged)
    stage.attached.append(wanted)
    assert stage.sh("cat file; ls", cwd=wanted.merged).split() == ["new", "dir", "file"]


@pytest.mark.parametrize("command", COMMANDS)
def test_lowers_alone_are_mounted_read_only(stage: Stage, command: str) -> None:
    wanted = union(stage, writable=False)
    stage.run(*COMMANDS[command], "-o", wanted.options, wanted.merged)
    stage.attached.append(wanted)
    assert stage.run("cat", wanted.merged / "file") == "lower1\n"
    assert "Read-only file system" in stage.attempt("touch", wanted.merged / "new").stderr


@pytest.mark.parametrize("option", [option for option, owner in OPTIONS.items() if owner])
def test_documented_option_is_taken_and_shows_the_owner_it_should(stage: Stage, option: str) -> None:
    wanted = union(stage)
    ids = {"uid": 0, "gid": 0} if stage.kind is Kind.USERNS else {"uid": stage.person.uid, "gid": stage.person.gid}
    stage.run(LAYERFS_MOUNT, "-o", f"{wanted.options},{option.format(**ids)}", wanted.merged)
    stage.attached.append(wanted)
    assert stage.run("stat", "-c", "%u:%g", wanted.merged / "below").strip() == OPTIONS[option].format(**ids)


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option_is_named(stage: Stage, command: str) -> None:
    wanted = union(stage)
    done = stage.attempt(*COMMANDS[command], "-o", f"{wanted.options},surely_unknown=1", wanted.merged)
    assert done.returncode != 0 and "surely_unknown" in done.stderr


def test_version_and_help_are_told(user_stage: Stage) -> None:
    assert "layerfs" in user_stage.run(LAYERFS_MOUNT, "--version")
    assert "lowerdir" in user_stage.run(LAYERFS_MOUNT, "--help")


PROGRAMS = {"layerfs": str(LAYERFS_MOUNT), "fuse-overlayfs": "/usr/bin/fuse-overlayfs"}


@pytest.mark.parametrize(
    "writer, reader, role",
    [
        ("layerfs", "fuse-overlayfs", "lower"),
        ("fuse-overlayfs", "layerfs", "lower"),
        ("fuse-overlayfs", "layerfs", "upper"),
    ],
)
def test_layer_with_ownership_in_xattrs_is_read_by_the_other(
    user_stage: Stage, writer: str, reader: str, role: str
) -> None:
    """xattr_permissions=2, which containers/storage asks for with force_mask.

    Its xattr is `user.containers.override_stat`; in its own upper Debian's fuse-overlayfs 1.10 knows only the older
    `user.fuseoverlayfs.override_stat`, which layerfs goes on with where it finds it, but does not begin with.
    """
    stage, made = user_stage, union(user_stage)
    stage.run(PROGRAMS[writer], "-o", f"{made.options},xattr_permissions=2", made.merged)
    stage.attached.append(made)
    stage.sh("echo x > new; chmod 604 new; mkdir dir; chmod 2751 dir; chmod 640 file", cwd=made.merged)
    question = ("stat", "-c", "%n %u:%g:%a", "new", "dir", "file")
    seen = stage.run(*question, cwd=made.merged)
    stage.detach(made)
    assert made.upper
    over = made if role == "upper" else stage.stack(made.upper, *made.lowers, name="over")
    stage.run(PROGRAMS[reader], "-o", f"{over.options},xattr_permissions=2", over.merged)
    stage.attached.append(over)
    assert stage.run(*question, cwd=over.merged) == seen
