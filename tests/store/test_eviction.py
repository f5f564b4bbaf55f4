"""What leaves a package cache, in which order, and what is spared."""

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument, NotFound
from layerfs.store import eviction, intake
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from layerfs.sys import locks
from tests.host import require
from tests.store.caches import add, incoming, killed_at, names, spoil, take
from tests.xar.packages import fake


@pytest.fixture
def shelf(cache: Cache, tmp_path: Path) -> Iterator[dict[str, CacheEntry]]:
    """Three entries of equal sizes; `a` was used last, `c` before, `b` the longest time ago."""
    entries = {name: add(cache, fake(tmp_path, name)) for name in "abc"}
    for age, name in enumerate("acb"):
        when = 1_000_000_000 - age
        directory = entries[name].directory
        os.utime(os.path.join(directory, b".used"), (when, when))
        os.utime(entries[name].path, (when, when))
        facts = json.loads(entries[name].facts()) | {"added": 1.0}
        Path(os.fsdecode(directory), ".entry.json").write_text(json.dumps(facts))
    yield entries


def test_least_recently_used_leave_first(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    size = shelf["a"].size
    swept = eviction.sweep(cache, 2 * size)
    assert ([entry.name for entry in swept.evicted], swept.size) == ([b"b.xar"], 2 * size)
    cache.checked(shelf["c"])  # a use
    assert [entry.name for entry in eviction.sweep(cache, 2 * size - 1).evicted] == [b"a.xar"]
    assert names(cache) == ["c1"]
    assert eviction.sweep(cache, 0).size == 0
    assert os.listdir(cache.place(b"packages")) == []


def test_locked_entry_is_spared(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    fd = cache.hold(shelf["b"])
    try:
        swept = eviction.sweep(cache, 0)
    finally:
        os.close(fd)
    assert [entry.name for entry in swept.spared] == [b"b.xar"]
    assert names(cache) == ["b1"]
    eviction.sweep(cache, 0)
    assert names(cache) == []


def test_layer_on_record_is_spared(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    eviction.sweep(cache, 0, [shelf["c"].path])
    assert names(cache) == ["c1"]


def test_file_of_a_loop_device_is_spared(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    require("root", "losetup")
    command = ["losetup", "--find", "--show", "--read-only", os.fsdecode(shelf["a"].path)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        eviction.sweep(cache, 0)
        assert names(cache) == ["a1"]
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_hold_tells_of_an_eviction(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    eviction.sweep(cache, 0)
    with pytest.raises(NotFound, match="evicted just now"):
        cache.hold(shelf["a"])


def test_hold_refuses_what_was_moved_away_while_it_waited(
    cache: Cache, shelf: dict[str, CacheEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = locks.use

    def evicted(directory: int, *, wait: bool = False) -> int:
        os.rename(shelf["a"].directory, cache.place(b"incoming", b"trash-1"))
        return real(directory, wait=wait)

    monkeypatch.setattr(locks, "use", evicted)
    with pytest.raises(NotFound, match="evicted just now"):
        cache.hold(shelf["a"])


@pytest.fixture
def foreign_lock(shelf: dict[str, CacheEntry]) -> Iterator[int]:
    """A lock that somebody takes who can read a package."""
    fd = os.open(shelf["a"].path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def test_a_lock_that_a_reader_takes_stops_nobody(
    cache: Cache, shelf: dict[str, CacheEntry], foreign_lock: int, tmp_path: Path
) -> None:
    """An add of the same content waited for it, for ever, and a sweep spared the package."""
    assert not take(cache, tmp_path / "a.xar")[1]
    os.close(cache.hold(shelf["a"], wait=True))
    swept = eviction.sweep(cache, 0)
    assert (len(swept.evicted), swept.spared) == (3, ())


def test_only_the_owner_can_lock_a_package(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    lock = os.path.join(shelf["a"].directory, locks.IN_USE)
    assert os.stat(lock).st_mode & 0o777 == 0o600


def test_a_package_of_a_cache_without_lock_files_is_evicted_and_held(
    cache: Cache, shelf: dict[str, CacheEntry]
) -> None:
    """Earlier versions made none."""
    for entry in shelf.values():
        os.unlink(os.path.join(entry.directory, locks.IN_USE))
    held = cache.hold(shelf["a"])
    eviction.sweep(cache, 0)
    os.close(held)
    assert names(cache) == []


def test_sweep_clears_quarantine_and_notes_of_earlier_boots(cache: Cache, shelf: dict[str, CacheEntry]) -> None:
    spoil(shelf["a"])
    with pytest.raises(Corrupt):
        cache.checked(shelf["a"])
    notes = Path(os.fsdecode(cache.place(b"verified")))
    notes.mkdir()
    (notes / "old").write_text("another boot 1 2 3\n")
    assert eviction.sweep(cache, 1 << 30).leftovers == 1
    assert os.listdir(cache.place(b"quarantine")) == []
    assert os.listdir(notes) == []


def test_sigkill_at_any_step_of_a_sweep_leaves_the_cache_whole(cache: Cache, tmp_path: Path) -> None:
    paths = [fake(tmp_path, name) for name in "fg"]
    step = 0
    while True:
        for path in paths:
            add(cache, path)
        if not killed_at(step, lambda: eviction.sweep(cache, 0)):
            break
        for entry in cache.entries()[0]:
            cache.verify(entry)
        eviction.sweep(cache, 0)
        assert (names(cache), incoming(cache)) == ([], [])
        step += 1
    assert step > 5


def test_adds_uses_and_sweeps_at_once_disturb_nobody(cache: Cache, tmp_path: Path) -> None:
    paths = [fake(tmp_path, name, content=name * 100_000) for name in "abc"]

    def adding(turn: int) -> None:
        added = intake.add(cache, os.fsencode(paths[turn % 3]), {"f.xar": f"{turn:064}"} if turn % 2 else None)
        cache.verify(added.entry)  # held, so it is there
        os.close(added.held)

    def sweeping(turn: int) -> None:
        eviction.sweep(cache, turn % 3 * 100_000)

    children = [in_child(act) for act in (adding, adding, adding, sweeping, sweeping)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * len(children)
    eviction.sweep(cache, 0)
    assert (names(cache), incoming(cache)) == ([], [])


def in_child(act: Callable[[int], None], rounds: int = 20) -> int:
    """Act many times in a child; its exit status tells whether all went well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for turn in range(rounds):
                act(turn + os.getpid())
            status = 0
        finally:
            os._exit(status)
    return pid


def test_sweep_of_what_is_no_cache_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("p")
    assert eviction.sweep(Cache(os.fsencode(tmp_path)), 0).leftovers == 0
    assert os.listdir(tmp_path) == ["precious"]


SIZES = [("0", 0), ("1", 1), ("500K", 512000), ("1.5G", 3 << 29), ("10GiB", 10 << 30), (" 2 mb", 2 << 20)]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes_are_read(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert eviction.parse_size(text) == size
    monkeypatch.setenv("LAYERFS_CACHE_SIZE", text)
    assert eviction.bound() == size


@pytest.mark.parametrize("text", ["", "many", "-1", "10X", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        eviction.parse_size(text)
