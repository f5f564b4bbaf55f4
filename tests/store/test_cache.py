"""The package cache: each content once, whole or not at all, sound or refused, and bounded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import Corrupt, InvalidArgument, NotReady
from layerfs.store import cache as cache_module
from layerfs.store import eviction, intake
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from tests.host import PROJECT, require
from tests.store.caches import add, incoming, killed_at, names, spoil, take
from tests.xar.packages import fake


def test_content_is_stored_once_and_versions_stand_side_by_side(cache: Cache, tmp_path: Path) -> None:
    one = fake(tmp_path, "f", version=1)
    assert take(cache, one)[1]
    assert not take(cache, one)[1]
    assert take(cache, fake(tmp_path, "f", version=2))[1]
    assert names(cache) == ["f1", "f2"]
    assert incoming(cache) == []


def test_entry_is_the_package_with_its_facts(cache: Cache, tmp_path: Path) -> None:
    path = fake(tmp_path, "f", version=7)
    entry = add(cache, path)
    assert Path(os.fsdecode(entry.path)).read_bytes() == path.read_bytes()
    assert os.stat(entry.path).st_mode & 0o777 == 0o444
    assert (entry.name, entry.version, entry.uuid, entry.size) == (b"f.xar", "7", "8f583eae", path.stat().st_size)
    assert cache.get(b"f.xar", entry.sha256) == entry == cache.entry_at(entry.path)
    assert cache.get(b"f.xar", "0" * 64) is None
    for elsewhere in (os.fsencode(path), b"/f.xar", b"/", entry.directory, entry.path + b"/f.xar"):
        assert cache.entry_at(elsewhere) is None


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


@pytest.mark.parametrize("again", [False, True], ids=["first use", "used before"])
def test_corrupt_entry_is_refused_and_set_aside(cache: Cache, tmp_path: Path, again: bool) -> None:
    path = fake(tmp_path, "f")
    entry = add(cache, path)
    if again:
        cache.checked(entry)
    spoil(entry)
    with pytest.raises(Corrupt, match=r"f\.xar in the cache .* is corrupt: its content is not what was added"):
        cache.checked(entry)
    assert names(cache) == []
    assert len(os.listdir(cache.place(b"quarantine"))) == 1
    assert take(cache, path)[1]
    cache.checked(entry)


def test_corrupt_entry_is_replaced_by_an_add(cache: Cache, tmp_path: Path) -> None:
    path = fake(tmp_path, "f")
    spoil(add(cache, path))
    entry, stored = take(cache, path)
    assert stored
    cache.verify(entry)


def replace_by_symlink(path: bytes) -> None:
    os.unlink(path)
    os.symlink(b"/etc/passwd", path)


DAMAGES: dict[str, Callable[[CacheEntry], object]] = {
    "no file": lambda entry: os.unlink(entry.path),
    "a symlink": lambda entry: replace_by_symlink(entry.path),
    "cut short": lambda entry: os.truncate(entry.path, 10),
    "no facts": lambda entry: os.unlink(os.path.join(entry.directory, b".entry.json")),
    "bad facts": lambda entry: Path(os.fsdecode(entry.directory), ".entry.json").write_text("{"),
    "others' facts": lambda entry: Path(os.fsdecode(entry.directory), ".entry.json").write_text(
        json.dumps(json.loads(entry.facts()) | {"sha256": "0" * 64})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_told_once(cache: Cache, tmp_path: Path, damage: Callable[[CacheEntry], object]) -> None:
    entry = add(cache, fake(tmp_path, "f"))
    os.chmod(entry.path, 0o644)
    damage(entry)
    with pytest.raises(Corrupt):
        for left in cache.versions(b"f.xar"):
            cache.checked(left)
    assert names(cache) == []


def test_content_is_read_at_the_first_use_and_after_a_change_only(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = add(cache, fake(tmp_path, "f"))
    reads: list[int] = []

    def reading(fd: int) -> str:
        reads.append(fd)
        return entry.xxh3

    monkeypatch.setattr("layerfs.xar.digest.quick", reading)
    cache.checked(entry)
    assert len(reads) == 0, "what was just stored was compared then"
    os.utime(entry.path)
    cache.checked(entry)
    cache.checked(entry)
    assert len(reads) == 1
    monkeypatch.setattr("layerfs.store.entry.boot", lambda: b"another boot")
    cache.checked(entry)
    assert len(reads) == 2


def test_verify_compares_what_names_the_entry(cache: Cache, tmp_path: Path) -> None:
    entry = add(cache, fake(tmp_path, "f"))
    cache.verify(entry)
    spoil(entry)
    with pytest.raises(Corrupt, match="SHA-256"):
        cache.verify(entry)


HOSTILE: dict[str, tuple[str, int]] = {
    "the root is open to all": ("", 0o777),
    "a group may write to the root": ("", 0o775),
    "the packages are open to all": ("packages", 0o777),
    "a name is open to all": ("packages/f.xar", 0o1777),
}


@pytest.mark.parametrize(("where", "mode"), HOSTILE.values(), ids=HOSTILE)
def test_directory_that_others_can_write_to_is_refused(cache: Cache, tmp_path: Path, where: str, mode: int) -> None:
    path = fake(tmp_path, "f")
    entry = add(cache, path)
    (tmp_path / "cache" / where).chmod(mode)
    for act in (lambda: cache.versions(b"f.xar"), lambda: cache.get(b"f.xar", entry.sha256), lambda: add(cache, path)):
        with pytest.raises(InvalidArgument, match="is not safe") as caught:
            act()
        assert "LAYERFS_CACHE" in caught.value.hint


def test_strangers_directory_and_links_are_refused(cache: Cache, tmp_path: Path) -> None:
    require("root")
    entry = add(cache, fake(tmp_path, "f"))
    os.chown(cache.root, 4711, 4711)
    with pytest.raises(InvalidArgument, match="owner 4711"):
        cache.versions(b"f.xar")
    os.chown(cache.root, 0, 0)
    os.rename(cache.place(b"packages"), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", cache.place(b"packages"))
    with pytest.raises(InvalidArgument, match="is not safe"):
        cache.get(b"f.xar", entry.sha256)


def test_nothing_is_made_in_a_directory_that_another_user_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`packages` was made in a stranger's directory before it was refused; a cache inside one was taken for safe."""
    require("root")
    path = fake(tmp_path, "f")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 4711, 4711)
    for root in (tmp_path / "theirs", tmp_path / "theirs/cache", tmp_path / "theirs/a/b"):
        cache = Cache(os.fsencode(root))
        for act in (lambda cache=cache: add(cache, path), cache.entries, lambda cache=cache: eviction.sweep(cache, 0)):
            with pytest.raises(InvalidArgument, match="is not safe for a package cache"):
                act()
    assert os.listdir(tmp_path / "theirs") == []


def test_a_cache_whose_name_another_user_can_give_away_is_not_read(cache: Cache, tmp_path: Path) -> None:
    """A stranger's link in a stranger's directory led to a cache of root's, and was followed."""
    require("root")
    add(cache, fake(tmp_path, "f"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/cache").symlink_to(os.fsdecode(cache.root))
    (tmp_path / "ours").symlink_to(os.fsdecode(cache.root))
    assert names(Cache(os.fsencode(tmp_path / "ours"))) == ["f1"]
    os.chown(tmp_path / "theirs", 4711, 4711)
    with pytest.raises(InvalidArgument, match="theirs is not safe"):
        Cache(os.fsencode(tmp_path / "theirs/cache")).entries()


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


def test_file_that_others_can_write_to_is_refused(cache: Cache, tmp_path: Path) -> None:
    entry = add(cache, fake(tmp_path, "f"))
    os.chmod(entry.path, 0o666)
    with pytest.raises(InvalidArgument, match="is not safe"):
        cache.checked(entry)


def test_users_search_their_own_cache_then_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYERFS_CACHE", raising=False)
    monkeypatch.setattr(cache_module, "NODE", os.fsencode(tmp_path / "node"))
    monkeypatch.setattr(cache_module, "in_user_namespace", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert [os.fsdecode(cache.root) for cache in Cache.all()] == [f"{tmp_path}/xdg/layerfs", f"{tmp_path}/node"]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache.own().root == os.fsencode(tmp_path / "home/.cache/layerfs")
    if os.geteuid() == 0:
        monkeypatch.setattr(cache_module, "in_user_namespace", lambda: False)
        assert [cache.root for cache in Cache.all()] == [os.fsencode(tmp_path / "node")]


def test_what_was_found_sound_in_the_nodes_cache_is_noted_in_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, node = Cache(os.fsencode(tmp_path / "own")), Cache(os.fsencode(tmp_path / "node"))
    monkeypatch.setattr(Cache, "all", classmethod(lambda cls: [own, node]))
    entry = add(node, fake(tmp_path, "f"))
    os.unlink(os.path.join(entry.directory, b".verified"))
    os.mkdir(os.path.join(entry.directory, b".verified"))  # as good as not writable
    node.checked(entry)
    assert os.listdir(own.place(b"verified")) == [os.fsencode(entry.sha256)]
    monkeypatch.setattr("layerfs.xar.digest.quick", lambda fd: pytest.fail("it was read again"))
    node.checked(entry)
