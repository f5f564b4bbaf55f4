"""podman, as root and rootless, with layerfs-mount as its mount program."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .engines import FUSE_OVERLAYFS, Engine, engine
from .stage import LAYERFS_MOUNT, Stage

NEEDS = ("podman", "runc", "busybox", "fuse-overlayfs")

PROGRAM = LAYERFS_MOUNT
WORK = """
rm /data/owned /data/deep/er/g1; rm -r /data/deep/er; mkdir /data/deep/er; echo new > /data/deep/er/new
mv /data/deep /data/moved; mv /data/moved/f1 /data/moved/er/; mv /opt/keep /opt/kept; mkfifo /tmp/pipe /data/pipe
chmod 700 /data/setuid; chown 1000:1000 /data/moved/f2; ln -sf elsewhere /etc/link
rm -rf /tmp/*; touch -d 2001-01-01 /etc
"""
SEEN = """
cd /; test ! -e data/owned; test "$(ls data/moved/er)" = "$(printf 'f1\\nnew')"; test ! -e opt/keep; test -p data/pipe
test "$(cat opt/kept/linked opt/linked)" = "$(printf 'linked\\nlinked')"; test "$(readlink etc/link)" = elsewhere
test "$(stat -c %u:%a data/moved/f2 data/setuid)" = "$(printf '1000:644\\n0:700')"; test "$(cat data/moved/f99)" = 99
"""
# fuse-overlayfs 1.10 shows what was in a lower directory when one is made again in its place, and breaks this link.
HARDER = "mkdir /data/deep; echo again > /data/deep/f5; ln /data/moved/f3 /data/moved/f3.link"
SEEN_HARDER = 'test "$(ls /data/deep)" = f5; test "$(stat -c %h /data/moved/f3.link)" = 2'


@pytest.fixture
def mine(engine_stage: Stage) -> Iterator[Engine]:
    with engine(engine_stage, PROGRAM) as mine:
        yield mine


def test_podman_finds_the_mount_program_and_its_version(mine: Engine) -> None:
    options = mine.podman("info", "--format", "{{json .Store.GraphOptions}}")
    assert str(PROGRAM) in options
    assert PROGRAM.name in options.split("Version")[1]


def test_container_runs_as_several_users_and_returns_its_status(mine: Engine) -> None:
    assert mine.container("localhost/base", "id -u; cat /data/deep/f7; echo x > /x; cat /x").split() == ["0", "7", "x"]
    assert mine.container("localhost/base", "id -u; cat /data/owned", "--user=1000").split() == ["1000", "theirs"]
    done = mine.attempt("run", "--rm", "localhost/base", "sh", "-c", "exit 42")
    assert done.returncode == 42


def test_bind_volume_and_named_volume_are_shared_with_the_container(mine: Engine) -> None:
    folder = mine.stage.layer("volume", {"from-host": "host\n"})
    mine.container("localhost/base", "cat /v/from-host; echo inside > /v/from-inside", f"--volume={folder}:/v")
    assert (folder / "from-inside").read_text() == "inside\n"
    mine.podman("volume", "create", "named")
    mine.container("localhost/base", "test -e /data/deep/f1; echo kept > /data/kept", "--volume=named:/data")
    assert mine.container("localhost/base", "cat /data/kept", "--volume=named:/data") == "kept\n"
    mine.podman("volume", "rm", "named")


def test_read_only_container_refuses_to_write(mine: Engine) -> None:
    assert mine.container("localhost/base", "! touch /x; touch /tmp/x; cat /data/deep/f3", "--read-only") == "3\n"


def test_running_container_is_entered_copied_from_and_stopped(mine: Engine) -> None:
    name = mine.podman("run", "-d", "--name=lasting", "localhost/base", "sleep", "1000").strip()
    mine.podman("exec", name, "sh", "-c", "mv /data/deep /data/away && echo 1 > /data/away/f1")
    mine.podman("cp", f"{name}:/data/away", mine.root / "copied")
    assert (mine.root / "copied/f1").read_text() == "1\n" and len(os.listdir(mine.root / "copied")) == 101
    mine.podman("stop", "--time=0", name)
    mine.podman("start", name)
    assert mine.podman("exec", name, "cat", "/data/away/f1", "/data/away/f2") == "1\n2\n"
    mine.podman("rm", "--force", "--time=0", name)
    assert mine.mounts() == []


def commit(by: Engine, work: str) -> None:
    by.podman("run", "--name=worked", "localhost/base", "sh", "-euc", work)
    by.podman("commit", "--quiet", "worked", "localhost/committed")


def test_committed_image_holds_what_the_container_saw(mine: Engine) -> None:
    commit(mine, WORK + HARDER)
    changes = set(mine.podman("diff", "worked").splitlines())
    assert {"D /data/owned", "A /data/moved", "A /opt/kept", "D /opt/keep"} <= changes
    mine.podman("rm", "worked")
    mine.container("localhost/committed", SEEN + SEEN_HARDER)
    assert {"D /data/owned", "A /data/moved/f99", "A /opt/kept/linked"} <= set(
        mine.podman("image", "diff", "localhost/committed", "localhost/base").splitlines()
    )


@pytest.mark.parametrize("program, work", [(FUSE_OVERLAYFS, WORK), (None, WORK + HARDER)], ids=["fuse", "kernel"])
def test_committed_image_is_the_same_as_by_other_overlays(mine: Engine, program: Path | None, work: str) -> None:
    with engine(mine.stage, program, "oracle") as oracle:
        commit(mine, work)
        commit(oracle, work)
        wanted = oracle.export("localhost/committed")
        assert mine.export("localhost/committed") == wanted
        carried = mine.root / "carried.tar"
        mine.podman("save", "--quiet", "--format=oci-archive", "-o", carried, "localhost/committed")
        oracle.podman("rmi", "--force", "localhost/committed")
        oracle.podman("load", "--quiet", "-i", carried)
        assert oracle.export("localhost/committed") == wanted


@pytest.mark.parametrize("namespace", ["auto:size=2000", "keep-id"])
def test_containers_with_other_id_maps_see_the_same_owners(user_stage: Stage, namespace: str) -> None:
    """Rootless only: Debian's root podman maps a mount program's lower twice, by idmapped mount and by option."""
    question = "stat -c %u:%g:%a /data/owned /data/setuid /data/deep /tmp; touch /data/mine; stat -c %u /data/mine"
    with engine(user_stage, PROGRAM) as mine:
        usual = mine.container("localhost/base", question)
        assert mine.container("localhost/base", question, f"--userns={namespace}", "--user=0") == usual


def test_several_containers_of_one_image_do_not_see_each_other(mine: Engine) -> None:
    names = [f"c{number}" for number in range(3)]
    for name in names:
        mine.podman("run", "-d", f"--name={name}", "localhost/base", "sleep", "1000")
    for name in names:
        script = f"test ! -e /who; echo {name} > /who; rm -r /data; mkdir /data; mv /who /data"
        mine.podman("exec", name, "sh", "-euc", script)
    assert [mine.podman("exec", name, "cat", "/data/who").strip() for name in names] == names
    mine.podman("rm", "--all", "--force", "--time=0")
    assert mine.mounts() == []


def test_mount_option_the_program_does_not_know_is_named_to_podmans_user(engine_stage: Stage) -> None:
    with engine(engine_stage, PROGRAM, extra='mountopt = "surely_unknown=1"') as mine:
        done = mine.attempt("run", "--rm", "localhost/base", "true")
        assert done.returncode != 0 and "surely_unknown" in done.stderr
