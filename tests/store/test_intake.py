"""Adding to a package cache: once, whole or not at all, whoever else is at it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import InvalidArgument, NotReady
from layerfs.store import eviction, intake
from layerfs.store.cache import Cache
from tests.host import PROJECT
from tests.store.caches import add, incoming, killed_at, names, spoil, take
from tests.xar.packages import fake


def test_content_is_stored_once_and_versions_stand_side_by_side(cache: Cache, tmp_path: Path) -> None:
    one = fake(tmp_path, "f", version=1)
    assert take(cache, one)[1]
    assert not take(cache, one)[1]
    assert take(cache, fake(tmp_path, "f", version=2))[1]
    assert names(cache) == ["f1", "f2"]
    assert incoming(cache) == []


def test_what_names_mean_can_be_noted_later_and_stays(cache: Cache, tmp_path: Path) -> None:
    path = fake(tmp_path, "a", ["f"])
    add(cache, path)
    for digest in ("1" * 64, "2" * 64):
        assert add(cache, path, **{"f.xar": digest}).depends == {"f.xar": digest}
        assert add(cache, path).depends == {"f.xar": digest}
    assert incoming(cache) == []


@pytest.mark.parametrize("name", ["text", ".hidden.xar", "directory"])
def test_what_is_no_package_is_refused(cache: Cache, tmp_path: Path, name: str) -> None:
    (tmp_path / "text").write_text("text\n")
    (tmp_path / "directory").mkdir()
    fake(tmp_path, ".hidden")
    with pytest.raises(InvalidArgument):
        add(cache, tmp_path / name)
    assert names(cache) == []


ADDING = """
import os, sys
from layerfs.store.cache import Cache
from layerfs.store.intake import add
sys.stdin.read(1)
print(add(Cache.own(), os.fsencode(sys.argv[1])).stored)
"""


def test_concurrent_adds_store_once(cache: Cache, tmp_path: Path) -> None:
    path = fake(tmp_path, "f", content="x" * (4 << 20))
    command = [sys.executable, "-c", ADDING, str(path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": PROJECT, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(6)]
    with ThreadPoolExecutor(len(children)) as pool:
        said = [out.strip() for out, _ in pool.map(lambda child: child.communicate("x"), children)]
    assert sorted(said) == ["False"] * 5 + ["True"]
    assert names(cache) == ["f1"]
    assert incoming(cache) == []


def test_sigkill_at_any_step_of_an_add_leaves_the_cache_whole(cache: Cache, tmp_path: Path) -> None:
    path = fake(tmp_path, "f")
    step = 0
    while killed_at(step, lambda: add(cache, path)):
        assert names(cache) in ([], ["f1"])
        for entry in cache.entries()[0]:
            cache.verify(entry)
        if step % 2:  # every other time somebody clears away before the next add
            eviction.sweep(cache, 1 << 30)
            assert not os.path.isdir(cache.place(b"incoming")) or incoming(cache) == []
        cache.checked(add(cache, path))
        assert names(cache) == ["f1"]
        eviction.sweep(cache, 0)
        assert (names(cache), incoming(cache)) == ([], [])
        step += 1
    assert step > 15, "an add takes more steps than that"


def test_changed_source_is_not_stored(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake(tmp_path, "f")

    def changing(source: int, target: int, size: int) -> None:
        os.pwrite(target, os.pread(source, size, 0)[:-1] + b"?", 0)

    monkeypatch.setattr(intake, "copy_data", changing)
    with pytest.raises(NotReady, match="changed while it was added"):
        add(cache, path)
    assert (names(cache), incoming(cache)) == ([], [])


def test_corrupt_entry_is_replaced_by_an_add(cache: Cache, tmp_path: Path) -> None:
    path = fake(tmp_path, "f")
    spoil(add(cache, path))
    entry, stored = take(cache, path)
    assert stored
    cache.verify(entry)


@pytest.mark.parametrize("mask", [0, 0o177, 0o777], ids=oct)
def test_the_callers_umask_changes_nothing(cache: Cache, tmp_path: Path, mask: int) -> None:
    path = fake(tmp_path, "f")
    old = os.umask(mask)
    try:
        entry = add(cache, path)
    finally:
        os.umask(old)
    assert names(cache) == ["f1"]
    mode = 0o755 if os.geteuid() == 0 else 0o700
    made = [cache.root, cache.place(b"packages"), cache.place(b"incoming")]
    assert [os.stat(path).st_mode & 0o7777 for path in made] == [mode] * 3
    modes = {os.fsdecode(path): os.stat(path).st_mode & 0o7777 for path in (entry.directory, entry.path)}
    assert list(modes.values()) == [0o755, 0o444]


def test_an_add_outlives_a_sweep_that_removes_its_empty_directories(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changed the mode of a directory that a sweep had just removed: ENOENT."""
    path, real = fake(tmp_path, "f"), os.mkdir
    removed: list[bytes] = []

    def removing(name: bytes, *arguments: Any, **options: Any) -> None:
        real(name, *arguments, **options)
        if name == b"f.xar" and len(removed) < 3:
            os.rmdir(name, dir_fd=options["dir_fd"])
            removed.append(name)

    monkeypatch.setattr(os, "mkdir", removing)
    cache.verify(add(cache, path))
    assert len(removed) == 3
