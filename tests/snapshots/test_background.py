"""Background work: what waits, what failed, what is pinned; tests/snapshotters/test_xar.py kills who works."""

import os
import threading
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.snapshots.background import Background
from layerfs.sys.locks import lock_file


@pytest.fixture
def work(scratch: Path) -> Background:
    (scratch / "snapshots").mkdir()
    return Background(os.fsencode(scratch), "tests.snapshots.nothing_to_run")


def put(scratch: Path, *numbers: int) -> None:
    """Directories that wait, without anybody being started."""
    (scratch / "queue").mkdir(exist_ok=True)
    for number in numbers:
        (scratch / f"snapshots/{number}").mkdir()
        (scratch / f"queue/{number}").symlink_to(f"snapshots/{number}")


def names(scratch: Path) -> dict[str, list[str]]:
    places = [scratch / name for name in ("queue", "done", "failed")]
    return {place.name: sorted(os.listdir(place)) for place in places if place.exists()}


def yes(_: bytes) -> bool:
    return True


def test_each_directory_is_done_once_and_forgotten_when_it_is_tidy(work: Background, scratch: Path) -> None:
    put(scratch, 10, 9)
    (scratch / "snapshots/8").mkdir()
    done: list[bytes] = []
    work.work(done.append, lambda directory: not directory.endswith(b"9"))
    assert [os.path.basename(path) for path in done] == [b"9", b"10"]
    assert names(scratch) == {"queue": [], "done": ["9"]}
    work.work(done.append, yes)
    assert len(done) == 2
    assert names(scratch)["done"] == []


def test_what_cannot_be_done_is_written_down_and_what_could_not_now_waits(work: Background, scratch: Path) -> None:
    put(scratch, 1, 2, 3)

    def do(directory: bytes) -> None:
        if directory.endswith(b"1"):
            raise Unsupported("never")
        if directory.endswith(b"2"):
            raise OSError(28, "No space left on device")

    work.work(do, yes)
    assert names(scratch) == {"queue": ["2"], "done": [], "failed": ["1"]}
    assert (scratch / "failed/1").read_text() == "never\n"


def test_directory_that_was_removed_is_forgotten(work: Background, scratch: Path) -> None:
    put(scratch, 1)
    (scratch / "snapshots/1").rmdir()
    work.work(_unwanted, yes)
    assert names(scratch) == {"queue": [], "done": []}


def test_directory_that_is_removed_while_it_is_worked_at_waits_no_more(work: Background, scratch: Path) -> None:
    """It waited for the next process, which nobody had a reason to start."""
    put(scratch, 1)

    def do(directory: bytes) -> None:
        os.rename(directory, directory + b"-gone")
        raise FileNotFoundError(2, "No such file or directory")

    work.work(do, yes)
    assert names(scratch) == {"queue": []}


def test_what_is_pinned_is_tidied_when_the_last_pin_goes(work: Background, scratch: Path) -> None:
    put(scratch, 1)
    work.pin(b"7", b"1")
    work.pin(b"7", b"1")
    work.pin(b"17", b"1")
    work.work(lambda _: None, yes)
    assert names(scratch)["done"] == ["1"]
    for user in (b"7", b"17"):
        assert work.is_pinned(b"1")
        for pin in [pin for pin in os.listdir(scratch / "pins") if pin.startswith(f"{user.decode()}-")]:
            (scratch / "pins" / pin).unlink()
    assert not work.is_pinned(b"1")
    work.work(_unwanted, yes)
    assert names(scratch)["done"] == []


def test_only_one_process_works(work: Background, scratch: Path) -> None:
    put(scratch, 1)
    held = lock_file(os.fsencode(scratch / "worker.lock"))
    done: list[bytes] = []
    second = threading.Thread(target=work.work, args=(done.append, yes))
    second.start()
    work.start()  # somebody is at work, so nobody is started
    assert (names(scratch), done) == ({"queue": ["1"]}, [])
    os.close(held)
    second.join()
    assert len(done) == 1


def _unwanted(directory: bytes) -> None:
    raise AssertionError(directory)
