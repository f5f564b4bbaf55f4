"""The ledger: transactions, several processes and threads, versions, and what is said of a damaged one."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from layerfs.store.ledger import Ledger
from tests.waiting import PATIENCE


@pytest.fixture
def ledger(scratch: Path) -> Iterator[Ledger]:
    made = Ledger(os.fsencode(scratch))
    yield made
    made.close()


def count(ledger: Ledger) -> int:
    with ledger.read() as db:
        (number,) = db.one("SELECT count(*) FROM records")
    return int(number)


def add(ledger: Ledger, name: str) -> None:
    with ledger.write() as db:
        db.run("INSERT INTO records VALUES ('test', ?, '', '{}', 0, 0)", name)


def add_many(ledger: Ledger, who: str) -> None:
    for number in range(50):
        add(ledger, f"{who} {number}")


def test_exception_takes_back_what_was_written(ledger: Ledger) -> None:
    with pytest.raises(KeyError), ledger.write() as db:
        db.run("INSERT INTO records VALUES ('test', 'a', '', '{}', 0, 0)")
        raise KeyError
    add(ledger, "b")
    assert count(ledger) == 1


def test_reader_sees_the_ledger_as_it_was_when_it_began(ledger: Ledger) -> None:
    with ledger.read() as db:
        assert db.one("SELECT count(*) FROM records") == (0,)
        add(ledger, "a")
        assert db.one("SELECT count(*) FROM records") == (0,)
    assert count(ledger) == 1


def test_threads_and_processes_write_in_turn(ledger: Ledger, scratch: Path) -> None:
    pids = []
    for child in range(2):
        pid = os.fork()
        if pid == 0:
            own = Ledger(os.fsencode(scratch))
            add_many(own, f"child {child}")
            os._exit(0)
        pids.append(pid)
    threads = [threading.Thread(target=add_many, args=(ledger, str(who))) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert count(ledger) == 6 * 50


def test_numbers_are_never_given_twice(ledger: Ledger, scratch: Path) -> None:
    other = Ledger(os.fsencode(scratch))
    taken = [each.take_id() for _ in range(200) for each in (ledger, other)]
    other.close()
    again = Ledger(os.fsencode(scratch))
    taken += [again.take_id() for _ in range(10)]
    again.close()
    assert len(set(taken)) == len(taken)
    assert min(taken) == 1


def test_log_is_moved_into_the_file_when_it_is_long(
    ledger: Ledger, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerfs.store.ledger.FULL_LOG", 50)
    for number in range(100):
        add(ledger, "x" * 1000 + str(number))
    assert ledger._mover is not None
    ledger._mover.join()
    assert (scratch / "ledger.db").stat().st_size > 50 * 1000  # what the log held when the mover began, at least


def test_log_is_moved_in_a_pause_for_which_nobody_waits_who_closes(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerfs.store.ledger.FULL_LOG", 1)
    monkeypatch.setattr("layerfs.store.ledger.PAUSE", 10 * PATIENCE)
    moved = threading.Event()
    with closing(Ledger(os.fsencode(scratch))) as made:
        monkeypatch.setattr(made, "_move_log", moved.set)
        for number in range(10):
            add(made, str(number))
        assert made._mover is not None
        assert made._mover.is_alive()
        assert not moved.is_set()
    assert moved.is_set()


OTHER = "import os, sys; from layerfs.store.ledger import Ledger; Ledger(os.fsencode(sys.argv[1])).close()"


@pytest.mark.parametrize("lets_go", ["file was synced", "ledger was opened twice"])
def test_log_is_not_taken_away_by_another_process_that_closes(ledger: Ledger, scratch: Path, lets_go: str) -> None:
    """Both let go of SQLite's own locks: the other one then removed the log, and what was written later was lost."""
    if lets_go == "file was synced":
        ledger._move_log()
    else:
        Ledger(os.fsencode(scratch)).close()
    subprocess.run([sys.executable, "-c", OTHER, scratch], check=True)
    add(ledger, "later")
    with closing(Ledger(os.fsencode(scratch))) as again:
        assert count(again) == 1


def test_who_closes_a_short_log_waits_for_no_disk(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Ledger(os.fsencode(scratch))) as made:
        add(made, "a")
        monkeypatch.setattr(made, "_move_log", lambda: pytest.fail("it was moved"))
    log = scratch / "ledger.db-wal"
    assert log.stat().st_size > 0
    with closing(Ledger(os.fsencode(scratch))) as again:
        assert count(again) == 1


def test_long_log_is_moved_and_cut_by_who_closes(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerfs.store.ledger.LONG_LOG", 50_000)
    with closing(Ledger(os.fsencode(scratch))) as made:
        for number in range(100):
            add(made, "x" * 1000 + str(number))
    assert (scratch / "ledger.db-wal").stat().st_size == 0
    with closing(Ledger(os.fsencode(scratch))) as again:
        assert count(again) == 100


def test_log_that_cannot_be_moved_stays_and_is_told_of(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    add(ledger, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ledger._move_log()
    assert "cannot be moved into it: [Errno 28] No space left" in caplog.text
    caplog.clear()
    assert count(ledger) == 1


def test_ledger_is_closed_to_others(ledger: Ledger, scratch: Path) -> None:
    add(ledger, "a")
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in scratch.iterdir()} == {
        "ledger.db": "0o600",
        "ledger.db-wal": "0o600",
        "ledger.db-shm": "0o600",
        "ledger.lock": "0o600",
        "ledger.spare": "0o600",
    }


def test_damaged_ledger_is_said_to_be_damaged(scratch: Path) -> None:
    (scratch / "ledger.db").write_bytes(b"no database" * 1000)
    with pytest.raises(Corrupt, match="damaged"):
        Ledger(os.fsencode(scratch))
