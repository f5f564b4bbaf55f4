"""The package cache: each content once, whole or not at all, sound or refused, and bounded."""

import os
import sys
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.store import cache as cache_module
from layerfs.store import eviction
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from tests.host import Person, require
from tests.store.caches import add, names, spoil, take
from tests.xar.packages import fake


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


SEARCH = """
import sys
from layerfs.store import cache
cache.NODE = sys.argv[1].encode()
print([(found.names(cache.PACKAGES), found.versions(b"f"), found.get(b"f", "0" * 64)) for found in cache.Cache.all()])
"""


@pytest.mark.parametrize("closed", ["", "packages"])
def test_a_node_s_cache_that_is_closed_to_a_user_has_nothing_for_them(
    scratch: Path, person: Person, closed: str
) -> None:
    """What root had noted before anything was added there made the cache root's alone, and no user could mount."""
    (scratch / "node/packages/f").mkdir(parents=True)
    (scratch / "node" / closed).chmod(0o700)
    done = person.run([sys.executable, "-c", SEARCH, str(scratch / "node")])
    assert done.stdout == "[([], [], None), ([], [], None)]\n"


def unmarked(cache: Cache, place: Path) -> CacheEntry:
    """Add an entry in which nobody can note that it is sound: as good as not writable."""
    entry = add(cache, fake(place, "f"))
    os.unlink(os.path.join(entry.directory, b".verified"))
    os.mkdir(os.path.join(entry.directory, b".verified"))
    return entry


def test_what_root_notes_first_makes_a_cache_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")
    node, another = Cache(os.fsencode(tmp_path / "node")), Cache(os.fsencode(tmp_path / "another"))
    monkeypatch.setattr(Cache, "all", classmethod(lambda cls: [node, another]))
    entry = unmarked(another, tmp_path)
    another.checked(entry)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "node", tmp_path / "node/verified")] == [0o755, 0o755]


def test_what_was_found_sound_in_the_nodes_cache_is_noted_in_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, node = Cache(os.fsencode(tmp_path / "own")), Cache(os.fsencode(tmp_path / "node"))
    monkeypatch.setattr(Cache, "all", classmethod(lambda cls: [own, node]))
    entry = unmarked(node, tmp_path)
    node.checked(entry)
    assert os.listdir(own.place(b"verified")) == [os.fsencode(entry.sha256)]
    monkeypatch.setattr("layerfs.xar.digest.quick", lambda fd: pytest.fail("it was read again"))
    node.checked(entry)
