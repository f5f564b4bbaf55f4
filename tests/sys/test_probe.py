"""Each feature of the host, tried; and a host that has nothing."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.model import Stack
from layerfs.sys import probe
from layerfs.sys.mountprobe import MOUNT_PROBES, apart
from layerfs.sys.overlay import mount_overlay
from layerfs.sys.probe import PROBES, Absent, Area, Feature, Probe, State, scratch_in
from tests.conftest import mounts_below
from tests.host import require
from tests.waiting import PATIENCE

ALL = {probe.name: probe for probe in (*PROBES, *MOUNT_PROBES)}


@pytest.fixture
def place(scratch: Path) -> Iterator[bytes]:
    with scratch_in(os.fsencode(scratch)) as place:
        yield place


def test_every_feature_is_tried_and_leaves_nothing(scratch: Path) -> None:
    with scratch_in(os.fsencode(scratch)) as place:
        features = [probe.run(place) for probe in ALL.values()]
    assert all(feature.present or feature.remedy or feature.instead for feature in features)
    assert all(feature.detail for feature in features)
    assert os.listdir(scratch) == []
    assert mounts_below(scratch) == []


@pytest.mark.parametrize(
    ("needs", "name"),
    [
        ("fuse", "/dev/fuse"),
        ("fusermount3", "fusermount3, setuid"),
        ("kernel overlay", "as root"),
        ("kernel overlay", "300 layers"),
        ("userns overlay", "in a user namespace"),
        ("user xattrs", "user.* xattrs"),
        ("root", "trusted.* xattrs"),
        ("root", "mounts for other users"),
    ],
)
def test_what_the_host_has_is_found(place: bytes, needs: str, name: str) -> None:
    require(needs)
    feature = ALL[name].run(place)
    assert feature == Feature(ALL[name].area, name, True, feature.detail)


@pytest.mark.parametrize("name", ["renameat2 WHITEOUT", "renameat2 EXCHANGE", "O_TMPFILE", "copy_file_range"])
def test_memory_filesystems_have_what_uppers_need(name: str) -> None:
    with scratch_in(b"/dev/shm") as place:
        assert ALL[name].run(place).present


def test_overlay_on_an_overlay_is_refused_in_the_kernels_words(scratch: Path) -> None:
    require("kernel overlay")
    names = [os.fsencode(scratch / name) for name in ("lower", "upper", "work", "merged")]
    for name in names:
        os.mkdir(name)
    mount_overlay(Stack((names[0],), names[1], names[2]), names[3])
    with scratch_in(names[3]) as place:
        feature = ALL["as root"].run(place)
    assert (feature.present, feature.remedy) == (False, ALL["as root"].remedy)
    assert feature.detail.startswith("Invalid argument: overlay: filesystem on ")


def test_absent_feature_has_its_reason_and_its_own_remedy_before_the_usual(place: bytes) -> None:
    def refuse(_scratch: bytes) -> str:
        raise Absent("because", next(remedies))

    remedies = iter(["do this", ""])
    for expected in ("do this", "do that"):
        found = Probe(Area.HOST, "x", refuse, "do that").run(place)
        assert found == Feature(Area.HOST, "x", False, "because", expected)


def test_error_of_the_host_is_a_no_and_not_a_crash(place: bytes) -> None:
    def refuse(_scratch: bytes) -> str:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), place)

    found = Probe(Area.HOST, "x", refuse, "do that").run(place)
    assert found == Feature(Area.HOST, "x", False, "Operation not permitted", "do that")


def test_child_that_says_nothing_is_a_no() -> None:
    with pytest.raises(Absent, match="without a word"):
        apart(lambda: os._exit(9))


def test_child_passes_on_reason_and_remedy() -> None:
    def refuse() -> str:
        raise Absent("why", "what")

    with pytest.raises(Absent, match="why") as caught:
        apart(refuse)
    assert caught.value.remedy == "what"


def test_missing_device_and_program_say_what_to_install(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fsdecode(place))
    feature = ALL["fusermount3, setuid"].run(place)
    assert (feature.present, feature.detail) == (False, "fusermount3 is not on PATH")
    assert feature.remedy == "as root: apt-get install fuse3"


def test_fusermount_without_setuid_is_found_out(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, it runs, and every mount by a person fails: a copied container image lost the bit."""
    program = os.path.join(place, b"fusermount3")
    with open(program, "wb") as file:
        os.fchmod(file.fileno(), stat.S_IRWXU)
    monkeypatch.setenv("PATH", os.fsdecode(place))
    feature = ALL["fusermount3, setuid"].run(place)
    assert feature.detail == f"{os.fsdecode(program)} is not setuid root"
    assert f"chmod u+s {os.fsdecode(program)}" in feature.remedy


def test_processor_count_is_this_process_own(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    assert not ALL["processors"].run(place).present


def test_io_uring_switch_is_read(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, present in ((b"Y\n", True), (b"N\n", False)):
        path = os.path.join(place, b"switch")
        with open(path, "wb") as file:
            file.write(content)
        monkeypatch.setattr(probe, "ENABLE_URING", os.fsdecode(path))
        feature = ALL["FUSE over io_uring"].run(place)
        assert feature.present is present
        assert present or f"echo Y > {os.fsdecode(path)}" in feature.remedy
    monkeypatch.setattr(probe, "ENABLE_URING", "/nowhere")
    assert "no io_uring" in ALL["FUSE over io_uring"].run(place).detail


def test_io_uring_that_is_forbidden_to_us_is_not_there(place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.path.join(place, b"switch")
    with open(path, "wb") as file:
        file.write(b"Y\n")
    monkeypatch.setattr(probe, "ENABLE_URING", os.fsdecode(path))
    monkeypatch.setattr(probe, "_IO_URING_SETUP", 10**6)  # no such system call, as where seccomp(2) hides it
    feature = ALL["FUSE over io_uring"].run(place)
    assert not feature.present
    assert "not for this process" in feature.detail
    assert "io_uring_disabled" in feature.remedy


def test_squashfs_image_mounts_and_its_loop_device_is_free_again(place: bytes) -> None:
    require("root")
    before = attached_loops()
    feature = ALL["squashfs mounts"].run(place)
    if not feature.present:
        pytest.skip(f"host lacks squashfs mounts: {feature.detail}")
    patience = time.monotonic() + PATIENCE  # the device is let go when the child's namespace has been taken down
    while not attached_loops() <= before:
        assert time.monotonic() < patience
        time.sleep(0.01)


def attached_loops() -> set[str]:
    """The loop devices with our image on them."""
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # freed at this moment
            if "memfd:squashfs" in path.read_text():
                found.add(str(path))
    return found


def test_unwritable_directory_raises(scratch: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch_in(os.fsencode(scratch / "nowhere")):
        pass


def test_a_feature_that_nobody_misses_is_no_fault(place: bytes) -> None:
    def refuse(_scratch: bytes) -> str:
        raise Absent("because")

    found = Probe(Area.HOST, "x", refuse, "do that", "something else serves").run(place)
    assert found == Feature(Area.HOST, "x", False, "because", "do that", "something else serves")
    assert found.state is State.NOT_NEEDED
    assert Probe(Area.HOST, "x", refuse, "do that").run(place).state is State.NO
    assert Probe(Area.HOST, "x", lambda _: "much", "do that").run(place).state is State.YES


def test_a_substitute_takes_the_usual_remedy_s_place(place: bytes) -> None:
    def refuse(_scratch: bytes) -> str:
        raise Absent("because", instead="this serves")

    assert Probe(Area.HOST, "x", refuse, "do that").run(place).remedy == ""


def test_what_user_allow_other_risks_is_said_before_it_is_advised(
    place: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(probe, "FUSE_CONF", "/nowhere")
    feature = ALL["mounts for other users"].run(place)
    assert feature.state is State.NOT_NEEDED
    assert "hang whoever looks at it" in feature.instead
    assert feature.remedy.startswith("as root: echo user_allow_other")


def test_a_command_names_the_user_and_the_settings_that_are_there() -> None:
    from layerfs.sys import mountprobe

    command = mountprobe._permit_namespaces()
    assert "user.max_user_namespaces=10000" in command
    for word in command.removeprefix("as root: sysctl ").split():
        assert Path("/proc/sys", word.partition("=")[0].replace(".", "/")).exists()
