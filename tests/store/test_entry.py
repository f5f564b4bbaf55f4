"""One entry of a package cache: what it says of itself, and that others cannot have said it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.store.cache import Cache
from layerfs.store.entry import CacheEntry
from tests.store.caches import add, names
from tests.xar.packages import fake


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


def test_file_that_others_can_write_to_is_refused(cache: Cache, tmp_path: Path) -> None:
    entry = add(cache, fake(tmp_path, "f"))
    os.chmod(entry.path, 0o666)
    with pytest.raises(InvalidArgument, match="is not safe"):
        cache.checked(entry)
