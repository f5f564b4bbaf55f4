"""Where a dependency is looked for, and when its name is ambiguous."""

import os
import re
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound
from layerfs.store.cache import Cache
from layerfs.xar.search import Search
from tests.host import require
from tests.store.caches import add
from tests.xar.packages import fake


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Directories `beside` with a dependant in it, `path1`, `path2`, `else`; caches `own` and `node`."""
    for name in ("beside", "path1", "path2", "else"):
        (tmp_path / name).mkdir()
    fake(tmp_path / "beside", "a", ["f"])
    return tmp_path


def found(place: Path, dependant: str = "beside/a.xar") -> str:
    """Where f.xar is found for a dependant, below `place`."""
    search = Search([os.fsencode(place / "path1"), os.fsencode(place / "path2")], lambda: caches(place))
    return os.path.relpath(os.fsdecode(search.find(b"f.xar", os.fsencode(place / dependant))), place)


def caches(place: Path) -> list[Cache]:
    return [Cache(os.fsencode(place / name)) for name in ("own", "node")]


def cached(place: Path, cache: str, path: Path, **depends: str) -> str:
    """Put a package into a cache, and return its digest."""
    return add(Cache(os.fsencode(place / cache)), path, **{f"{n}.xar": digest for n, digest in depends.items()}).sha256


PLACES = {
    "beside": (["beside"], "beside/f.xar"),
    "on the path": (["path2"], "path2/f.xar"),
    "equal everywhere: the first": (["path2", "path1", "beside"], "beside/f.xar"),
    "equal on the path: the first": (["path2", "path1"], "path1/f.xar"),
}


@pytest.mark.parametrize(("at", "expected"), PLACES.values(), ids=PLACES)
def test_package_is_found(place: Path, at: list[str], expected: str) -> None:
    for name in at:
        fake(place / name, "f")
    assert found(place) == expected


@pytest.mark.parametrize("at", [("beside", "path1"), ("beside", "path2"), ("path1", "path2")])
def test_different_contents_are_ambiguous_and_named_with_their_versions(place: Path, at: tuple[str, str]) -> None:
    for version, name in enumerate(at, 1):
        fake(place / name, "f", version=version)
    with pytest.raises(InvalidArgument) as caught:
        found(place)
    both = " and ".join(f"{place / name / 'f.xar'} (version {version})" for version, name in enumerate(at, 1))
    assert caught.value.message == f"f.xar, which a.xar depends on, is ambiguous: {both} differ"
    assert "layer" in caught.value.hint


def test_equal_sizes_are_not_equal_contents(place: Path) -> None:
    fake(place / "beside", "f", content="one")
    fake(place / "path1", "f", content="two")
    with pytest.raises(InvalidArgument, match="ambiguous"):
        found(place)


def test_candidate_with_a_bad_header_is_still_named(place: Path) -> None:
    fake(place / "beside", "f")
    (place / "path1/f.xar").write_text('#!/usr/bin/env xarexec_fuse\nOFFSET="1"\n#xar_stop\n')
    with pytest.raises(InvalidArgument, match="header not readable"):
        found(place)


def test_beside_is_where_the_dependant_was_named_and_where_symlinks_lead(place: Path) -> None:
    (place / "else/a.xar").symlink_to("../beside/a.xar")
    fake(place / "beside", "f")
    assert found(place, "else/a.xar") == "beside/f.xar"
    fake(place / "else", "f", version=2)
    with pytest.raises(InvalidArgument, match="ambiguous"):
        found(place, "else/a.xar")


def test_directories_and_dangling_symlinks_are_no_packages(place: Path) -> None:
    (place / "beside/f.xar").mkdir()
    (place / "path1/f.xar").symlink_to("nowhere")
    fake(place / "path2", "f")
    assert found(place) == "path2/f.xar"


def test_missing_package_tells_every_place(place: Path) -> None:
    with pytest.raises(NotFound) as caught:
        found(place)
    assert caught.value.message == (
        f"there is no f.xar, which a.xar depends on; searched: {place}/beside, {place}/path1 (LAYERFS_XAR_PATH), "
        f"{place}/path2 (LAYERFS_XAR_PATH), the cache {place}/own, the cache {place}/node"
    )


def test_places_come_from_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(place / "path2", "f")
    cached(place, "own", fake(place / "else", "g"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("LAYERFS_XAR_PATH", f":{place}/none::path2:")
    monkeypatch.setenv("LAYERFS_CACHE", f"{place}/own")
    search = Search.from_environment(Cache.all)
    dependant = os.fsencode(place / "beside/a.xar")
    assert search.find(b"f.xar", dependant) == os.fsencode(place / "path2/f.xar")
    assert b"/own/packages/g.xar/" in search.find(b"g.xar", dependant)


def test_cache_is_asked_last_the_own_one_first(place: Path) -> None:
    old = fake(place / "else", "f")
    cached(place, "node", old)
    assert found(place).startswith("node/")
    cached(place, "own", old)
    assert found(place).startswith("own/")
    fake(place / "path2", "f", version=2)
    assert found(place) == "path2/f.xar", "a cache keeps what was current once: it makes nothing ambiguous"


def test_several_versions_in_the_caches_are_ambiguous(place: Path) -> None:
    cached(place, "own", fake(place / "else", "f", version=1))
    cached(place, "node", fake(place / "else", "f", version=22))
    with pytest.raises(InvalidArgument) as caught:
        found(place)
    said = r"f\.xar, which a\.xar depends on, is ambiguous: the cache has version 1 \(\w{12}\), version 22 \(\w{12}\)"
    assert re.fullmatch(said, caught.value.message)
    assert "layerfs cache path" in caught.value.hint


def test_dependant_in_a_cache_means_what_it_was_added_with(place: Path) -> None:
    first = cached(place, "own", fake(place / "else", "f", version=1))
    second = cached(place, "own", fake(place / "else", "f", version=2))
    for digest in (first, second):
        dependant = cached(place, "own", place / "beside/a.xar", f=digest)
        assert found(place, f"own/packages/a.xar/{dependant}/a.xar") == f"own/packages/f.xar/{digest}/f.xar"


def test_what_a_dependant_was_added_with_is_missing_rather_than_another_version(place: Path) -> None:
    cached(place, "own", fake(place / "else", "f"))
    dependant = cached(place, "own", place / "beside/a.xar", f="0" * 64)
    with pytest.raises(NotFound, match="with which it was added"):
        found(place, f"own/packages/a.xar/{dependant}/a.xar")


def test_strangers_file_counts_only_where_not_everybody_may_put_files(place: Path) -> None:
    require("root")
    os.chown(fake(place / "beside", "f"), 4711, 4711)
    assert found(place) == "beside/f.xar"
    (place / "beside").chmod(0o1777)
    with pytest.raises(InvalidArgument, match="belongs to a stranger"):
        found(place)
    os.chown(place / "beside/a.xar", 4711, 4711)
    assert found(place) == "beside/f.xar", "the dependant is theirs, too"


def test_a_file_that_a_stranger_may_exchange_is_refused(place: Path) -> None:
    """Who owned the symlink could let it lead elsewhere after it was looked at."""
    require("root")
    fake(place / "beside", "f").rename(place / "beside/real.xar")
    (place / "beside/f.xar").symlink_to("real.xar")
    (place / "beside").chmod(0o1777)
    assert found(place) == "beside/f.xar"
    os.chown(place / "beside/f.xar", 4711, 4711, follow_symlinks=False)
    with pytest.raises(InvalidArgument, match="belongs to a stranger"):
        found(place)
    os.chown(place / "beside/f.xar", 0, 0, follow_symlinks=False)
    (place / "beside").chmod(0o777)
    with pytest.raises(InvalidArgument, match="anybody may exchange it"):
        found(place)
