"""What stands in the way, said before anything is mounted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound, NotReady
from layerfs.fuse.mount import attach
from layerfs.mounts.preflight import record_at, see_that_it_answers, see_upper
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import unmount
from tests.host import Person, require


def test_an_upper_that_can_be_written_to_is_fine(scratch: Path) -> None:
    see_upper(bytes(scratch))


def test_an_upper_on_a_read_only_filesystem_is_named_as_it_was(scratch: Path) -> None:
    require("root")
    (scratch / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", scratch / "disk"], check=True)
    with pytest.raises(InvalidArgument, match="the upper as/named is on a read-only filesystem") as error:
        see_upper(bytes(scratch / "disk"), b"as/named")
    assert "mount read-only" in error.value.hint


def test_what_is_no_directory_is_no_upper(scratch: Path) -> None:
    with pytest.raises(NotFound, match="no such upper"):
        see_upper(bytes(scratch / "absent"))
    (scratch / "file").touch()
    with pytest.raises(InvalidArgument, match="is not a directory"):
        see_upper(bytes(scratch / "file"))


PROGRAM = """
import sys
from layerfs.errors import LayerfsError
from layerfs.mounts.preflight import see_upper
try:
    see_upper(sys.argv[1].encode())
except LayerfsError as error:
    print(error)
"""


def test_an_upper_of_somebody_else_is_said_to_be_theirs(scratch: Path, person: Person) -> None:
    require("root")
    (scratch / "upper").mkdir(mode=0o755)
    done = person.run([sys.executable, "-c", PROGRAM, str(scratch / "upper")])
    said = f"the upper {scratch}/upper belongs to uid 0 (hint: give an upper of your own that you may write to)"
    assert done.stdout == said + "\n"
    os.chown(scratch / "upper", person.uid, person.gid)
    (scratch / "upper").chmod(0o555)
    assert (
        "is yours, but may not be written to" in person.run([sys.executable, "-c", PROGRAM, f"{scratch}/upper"]).stdout
    )


def test_where_nothing_of_ours_is_mounted_there_is_no_record(scratch: Path) -> None:
    assert record_at(bytes(scratch)) is None
    assert record_at(b"/proc") is None


def test_what_does_not_answer_at_the_mountpoint_hangs_nobody(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root", "fuse")
    monkeypatch.setattr("layerfs.mounts.health.TIMEOUT", 0.2)
    device = attach(bytes(scratch), AttachOptions())  # which nobody serves
    try:
        with pytest.raises(NotReady, match=f"mounted at {scratch} does not answer") as error:
            see_that_it_answers(bytes(scratch))
        assert error.value.hint == f"layerfs umount -l {scratch}"
    finally:
        os.close(device)
        unmount(bytes(scratch), lazy=True)


def test_what_answers_and_what_is_no_mount_is_passed_over(scratch: Path) -> None:
    see_that_it_answers(bytes(scratch))
    see_that_it_answers(b"/proc")
    see_that_it_answers(bytes(scratch / "absent"))
