"""A full filesystem: what is there is seen and can be removed, what is new is refused, and nothing is lost."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from layerfs.snapshots.maintenance import check
from tests.contract.subjects import DRIVERS, Subject, a_subject
from tests.host import require

SIZE = 24 << 20  # bytes
KEYS, MANY = 40, 400


@contextmanager
def small_filesystem(scratch: Path) -> Iterator[Path]:
    """A small filesystem, blocks of 1 KiB: a page of a mapped file is then several."""
    place, image = scratch / "small", scratch / "image-of-small"
    place.mkdir()
    image.touch()
    os.truncate(image, SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", "1024", "-N", "4096", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place


@pytest.fixture(params=DRIVERS)
def subject(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Subject]:
    """A store on a small filesystem; btrfs has one of its own."""
    require("root")
    with ExitStack() as made:
        place = scratch if request.param == "btrfs" else made.enter_context(small_filesystem(scratch))
        yield made.enter_context(a_subject(request.param, place))


def fill(place: Path) -> None:
    """Leave no room."""
    os.sync()
    with open(place / "filler", "ab") as file:
        step = 16 << 20
        while step >= 1024:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                step //= 2
    os.sync()


def test_full_filesystem_lets_go_of_snapshots_and_takes_no_more(subject: Subject) -> None:
    """On btrfs the ledger's index, in mapped memory, had the kernel kill who wrote there."""
    snapshots = subject.snapshots
    subject.layer("base", a="1")
    for number in range(KEYS):
        snapshots.prepare(f"key{number}", "base")
    fill(subject.root.parent)
    refused = []
    for number in range(KEYS):
        try:
            snapshots.prepare(f"more{number}", "base")
        except OSError as error:
            refused.append(error.errno)
    assert set(refused) == {errno.ENOSPC} or subject.name == "btrfs"  # a subvolume may still find room
    for number in range(KEYS):
        snapshots.remove(f"key{number}")
    subject.reopen()  # SQLite makes its index anew
    snapshots = subject.snapshots
    assert not [info.name for info in snapshots.walk("name~=^key")]
    assert snapshots.stat("base").name == "base"
    assert check(subject.store, repair=False) == []
    snapshots.cleanup()
    (subject.root.parent / "filler").unlink()
    os.sync()
    assert subject.view("base") == {"a": "1"}
    assert check(subject.store, repair=False) == []


def test_what_a_full_filesystem_refuses_leaves_before_or_after(subject: Subject) -> None:
    snapshots = subject.snapshots
    subject.layer("base", a="1")
    snapshots.prepare("key", "base")
    with subject.at("key") as target:
        (target / "b").write_text("2")
    fill(subject.root.parent)
    with suppress(OSError):
        snapshots.commit("name", "key")
    with suppress(OSError):
        snapshots.cleanup()
    found = {info.name for info in snapshots.walk()}
    assert found in ({"base", "key"}, {"base", "name"})
    (subject.root.parent / "filler").unlink()
    os.sync()
    if "key" in found:
        snapshots.commit("name", "key")
    assert subject.view("name") == {"a": "1", "b": "2"}
    assert check(subject.store, repair=False) == []


def test_many_snapshots_are_removed_from_a_full_filesystem_at_once(scratch: Path) -> None:
    """The room that is kept for the log is enough for fewer than are removed before the log is moved."""
    require("root")
    with small_filesystem(scratch) as place, a_subject("overlay", place) as subject:
        for number in range(MANY):
            subject.snapshots.prepare(f"key{number}")
        subject.reopen()
        fill(place)
        for number in range(MANY):
            subject.snapshots.remove(f"key{number}")
        assert list(subject.snapshots.walk()) == []
