"""A layer in the package cache is the layer that was put there, over every driver."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerfs.errors import Unsupported
from layerfs.oci import cached
from layerfs.store.cache import Cache
from tests.contract.subjects import Subject, a_subject
from tests.host import require

CHAINS = ["sha256:" + digit * 64 for digit in "ab"]


@pytest.fixture
def cache(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache of the test's own."""
    monkeypatch.setenv("LAYERFS_CACHE", str(scratch / "cache"))
    return Cache.own()


def fill(subject: Subject) -> None:
    """Two layers: the upper one deletes, replaces a directory, and gives owners and xattrs."""
    subject.snapshots.prepare("one")
    with subject.at("one") as target:
        for name in ("gone", "opaque", "kept"):
            (target / name).mkdir()
            (target / name / "old").write_text(name)
    subject.snapshots.commit(CHAINS[0], "one")
    subject.snapshots.prepare("two", CHAINS[0])
    with subject.at("two") as target:
        for name in ("gone", "opaque"):
            (target / name / "old").unlink()
            (target / name).rmdir()
        (target / "opaque").mkdir()
        (target / "opaque/new").write_text("new")
        os.chown(target / "opaque/new", 7, 8)
        os.setxattr(target / "opaque/new", "user.x", b"y")
        os.link(target / "opaque/new", target / "kept/link")
    subject.snapshots.commit(CHAINS[1], "two")


@contextmanager
def a_store(driver: str, place: Path) -> Iterator[Subject]:
    place.mkdir()
    with a_subject(driver, place) as subject:
        yield subject


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar", "btrfs"])
def test_layers_from_the_cache_are_the_layers_that_were_put_there(cache: Cache, scratch: Path, driver: str) -> None:
    require("kernel overlay")
    with a_store("overlay", scratch / "source") as source, a_store(driver, scratch / "target") as target:
        fill(source)
        parent = ""
        for chain in CHAINS:
            os.close(cached.keep(cache, source.snapshots, chain).held)
            target.snapshots.prepare("making", parent)
            with cached.found(chain) as package:
                cached.unpack(package, target.snapshots, "making")
            parent = f"x/{chain}"
            target.snapshots.commit(parent, "making")
        source.snapshots.view("view", CHAINS[1])
        target.snapshots.view("view", parent)
        assert target.tree("view").records == source.tree("view").records


def test_whole_trees_are_no_layers(cache: Cache, scratch: Path) -> None:
    with a_store("btrfs", scratch / "source") as source:
        fill(source)
        with pytest.raises(Unsupported):
            cached.keep(cache, source.snapshots, CHAINS[1])


@pytest.mark.parametrize("chain", [CHAINS[0], "", "sha256:../../x", "sha256:" + "A" * 64])
def test_what_no_cache_holds_is_not_found(cache: Cache, chain: str) -> None:
    with cached.found(chain) as package:
        assert package == b""
