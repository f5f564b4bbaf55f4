"""The directory that `run` mounts at: new, locked, and gone even after a kill."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.mounts.scratch import scratch_directory, sweep


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path


def test_place_is_new_and_gone_afterwards(base: Path) -> None:
    with scratch_directory() as first, scratch_directory() as second:
        assert first != second
        assert (os.listdir(first), len(os.listdir(base))) == ([], 2)
    assert os.listdir(base) == []


def test_place_of_a_killed_run_is_swept_up_and_one_in_use_is_not(base: Path) -> None:
    with scratch_directory() as used:
        (base / "layerfs-run-abandoned").mkdir()
        (base / "somebody-elses").mkdir()
        sweep(os.fsencode(base))
        assert sorted(os.listdir(base)) == sorted([os.path.basename(os.fsdecode(used)), "somebody-elses"])


def test_sweeping_stays_away_from_what_is_not_an_empty_directory_of_ours(base: Path) -> None:
    (base / "layerfs-run-full" / "x").mkdir(parents=True)
    (base / "layerfs-run-file").touch()
    (base / "layerfs-run-link").symlink_to(base)
    sweep(os.fsencode(base))
    assert len(os.listdir(base)) == 3


def test_place_that_a_sweeper_took_before_it_was_locked_is_made_again(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = fcntl.flock, list[str]()

    def lose_the_first(fd: int, operation: int) -> None:
        if not taken:
            taken.append(os.readlink(f"/proc/self/fd/{fd}"))
            os.rmdir(taken[0])
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lose_the_first)
    with scratch_directory() as path:
        assert os.path.isdir(path)
        assert os.fsdecode(path) != taken[0]
