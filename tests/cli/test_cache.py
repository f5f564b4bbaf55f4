"""`layerfs cache` as a user calls it: what is stored and what was there, what leaves, and what is refused."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Place
from tests.host import Person, require
from tests.waiting import wait_until
from tests.xar.packages import DIAMOND, fake, fakes, reals


@pytest.fixture
def place(scratch: Path) -> Place:
    """A directory with the diamond of fakes in it; the cache is below it."""
    return Place(fakes(scratch / "place", DIAMOND))


def cache(place: Place, *words: str | Path, **environment: str) -> str:
    """What `layerfs cache` prints."""
    return place.do("cache", *words, env={"LAYERFS_CACHE": str(place.base / "cache"), **environment})


def refused(place: Place, *words: str | Path, **environment: str) -> str:
    done = place.run("cache", *words, env={"LAYERFS_CACHE": str(place.base / "cache"), **environment})
    assert done.returncode == 1
    return done.stderr


def listed(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cache(place, "ls", "--json"))
    return found


def test_rebuilding_one_module_of_a_graph_adds_one_file(place: Place) -> None:
    assert cache(place, "add", "--deps", "a.xar") == "stored 6 of 6 packages, 24.0 KiB\n"
    assert cache(place, "add", "--deps", "a.xar") == "stored 0 of 6 packages, 0 bytes; 6 were there, 24.0 KiB reused\n"
    fake(place.base, "f", version=2)
    assert cache(place, "add", "a.xar", "--deps") == "stored 1 of 6 packages, 4.0 KiB; 5 were there, 20.0 KiB reused\n"
    assert [(e["name"], e["version"]) for e in listed(place)][-2:] == [("f.xar", "1"), ("f.xar", "2")]


def test_graph_in_the_cache_is_the_one_that_was_added_last(place: Place) -> None:
    for version in (1, 2):
        fake(place.base, "f", version=version)
        cache(place, "add", "--deps", "a.xar")
        path = cache(place, "path", "a.xar").strip()
        words = ("xar", "graph", path, "--no-conflicts")
        assert f"f.xar {version}\n" in place.do(*words, env={"LAYERFS_CACHE": str(place.base / "cache")})


def test_json_tells_what_was_stored_and_what_was_there(place: Place) -> None:
    cache(place, "add", "f.xar")
    said = json.loads(cache(place, "add", "--json", "e.xar", "f.xar"))
    assert [entry["name"] for entry in said["stored"]] == ["e.xar"]
    assert [entry["name"] for entry in said["reused"]] == ["f.xar"]
    assert (said["evicted"], said["stored_bytes"] + said["reused_bytes"]) == ([], said["size"])
    assert all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in listed(place))


def test_list_is_for_people(place: Place) -> None:
    assert cache(place, "ls") == "0 packages, 0 bytes\n"
    cache(place, "add", "f.xar")
    first, last = cache(place, "ls").splitlines()
    assert re.fullmatch(rf"f\.xar 1 \([0-9a-f]{{12}}\)  4\.0 KiB  used [\d-]+ [\d:]+  {place.base}/cache", first)
    assert last == "1 package, 4.0 KiB"


def test_path_is_that_of_the_version_asked_for(place: Place) -> None:
    for version in (1, 2):
        cache(place, "add", fake(place.base, "f", version=version))
    digests = {entry["version"]: entry["sha256"] for entry in listed(place)}
    for asked in ("f.xar=2", f"f.xar={digests['2'][:8]}"):
        assert cache(place, "path", asked) == f"{place.base}/cache/packages/f.xar/{digests['2']}/f.xar\n"
    assert "f.xar is ambiguous: f.xar 1" in refused(place, "path", "f.xar")
    assert "the cache has no f.xar=3 (hint: it has f.xar 1" in refused(place, "path", "f.xar=3")
    assert "(hint: layerfs cache add FILE)" in refused(place, "path", "none.xar")


def test_bound_is_kept_by_add_and_gc(place: Place) -> None:
    cache(place, "add", "b.xar", "c.xar")
    said = cache(place, "add", "d.xar", LAYERFS_CACHE_SIZE="9K")
    assert re.match(r"stored 1 of 1 package, 4.0 KiB\nevicted b.xar 1 \(\w+\), 4.0 KiB\n$", said)
    assert "set LAYERFS_CACHE_SIZE to more" in refused(place, "add", "--deps", "a.xar", LAYERFS_CACHE_SIZE="9K")
    assert cache(place, "gc").endswith("evicted 0, removed 0 leftovers; 8.0 KiB left\n")
    assert cache(place, "gc", "--max-size", "0").endswith("evicted 2, removed 0 leftovers; 0 bytes left\n")
    assert "is no size" in refused(place, "gc", "--max-size", "much")


def test_verify_finds_what_is_corrupt_and_sets_it_aside(place: Place) -> None:
    cache(place, "add", "e.xar", "f.xar")
    assert cache(place, "verify") == "2 sound, 0 corrupt\n"
    path = Path(cache(place, "path", "f.xar").strip())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = place.run("cache", "verify", env={"LAYERFS_CACHE": str(place.base / "cache")})
    assert (done.returncode, done.stdout) == (1, "1 sound, 1 corrupt\n")
    assert "f.xar in the cache" in done.stderr
    assert "is in quarantine now (hint: add it again" in done.stderr
    assert "the cache has no f.xar" in refused(place, "path", "f.xar")
    assert "removed 1 leftovers" in cache(place, "gc")


def test_corrupt_dependency_is_not_mounted(place: Place) -> None:
    cache(place, "add", "f.xar")
    path = Path(cache(place, "path", "f.xar").strip())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (place.base / "f.xar").unlink()
    place.mnt.mkdir()
    done = place.run("mount", "e.xar", place.mnt, env={"LAYERFS_CACHE": str(place.base / "cache")})
    assert done.returncode == 1
    assert "its content is not what was added" in done.stderr


def test_cache_that_others_can_write_to_is_not_used(place: Place) -> None:
    cache(place, "add", "f.xar")
    (place.base / "cache").chmod(0o777)
    (place.base / "f.xar").unlink()
    for words in (("cache", "ls"), ("cache", "add", "e.xar"), ("xar", "graph", "e.xar")):
        done = place.run(*words, env={"LAYERFS_CACHE": str(place.base / "cache")})
        assert (done.returncode, "mode 0777" in done.stderr) == (1, True)


@pytest.fixture
def owner(scratch: Path, person: Person) -> Place:
    """A person's directory with a diamond that can be mounted, without `f.xar`, which is in their cache."""
    require("fuse", "mksquashfs")
    place = Place(reals(scratch / "real", DIAMOND), person)
    place.mnt.mkdir()
    person.owns(place.base, place.mnt)
    place.do("cache", "add", "f.xar")
    (place.base / "f.xar").unlink()
    return place


@pytest.mark.parametrize("driver", ["fuse", "auto"])
def test_what_is_mounted_is_not_evicted(owner: Place, driver: str) -> None:
    owner.do("mount", "--quiet", "--driver", driver, "a.xar", "mnt")
    entry = json.loads(owner.do("cache", "ls", "--json"))[0]
    assert entry["path"] in owner.status()["layers"]
    assert owner.do("cache", "gc", "--max-size", "0").endswith("1 in use spared; 8.0 KiB left\n")
    owner.do("umount", "mnt")
    # A mount namespace that was made meanwhile, for another test, has a copy of a kernel's mount until it ends.
    wait_until(lambda: owner.do("cache", "gc", "--max-size", "0").endswith("; 0 bytes left\n"))


def test_eviction_sees_a_server_that_is_not_on_record(owner: Place) -> None:
    owner.do("mount", "--quiet", "--driver", "fuse", "a.xar", "mnt")
    os.rename(owner.base.parent / "home/runtime/layerfs", owner.base / "aside")
    assert owner.do("cache", "gc", "--max-size", "0").endswith("1 in use spared; 8.0 KiB left\n")


def test_images_of_kernel_mounts_are_not_evicted(scratch: Path) -> None:
    require("root", "kernel overlay", "mksquashfs")
    place = Place(reals(scratch / "real", DIAMOND))
    place.mnt.mkdir()
    cache(place, "add", "f.xar")
    path = cache(place, "path", "f.xar").strip()
    place.do("mount", "--quiet", "--driver", "kernel", path, place.mnt)
    assert cache(place, "gc", "--max-size", "0").endswith("1 in use spared; 8.0 KiB left\n")
    place.do("umount", place.mnt)
    wait_until(lambda: cache(place, "gc", "--max-size", "0").endswith("; 0 bytes left\n"))  # copies of it: see above


def test_a_name_may_hold_an_equals_sign(place: Place) -> None:
    (place.base / "a=b.xar").write_bytes((place.base / "f.xar").read_bytes())
    cache(place, "add", "a=b.xar")
    assert cache(place, "path", "a=b.xar").endswith("/a=b.xar\n")


def test_one_content_under_two_names_is_found_by_both(scratch: Path) -> None:
    place = Place(scratch / "place")
    place.base.mkdir()
    library = fake(place.base, "lib")
    (place.base / "lib2.xar").write_bytes(library.read_bytes())  # the same bytes, so the same package
    fake(place.base, "b", ["lib"])
    fake(place.base, "c", ["lib2"])
    above = fake(place.base, "a", ["b", "c"])
    cache(place, "add", "--deps", "a.xar")
    apart = place.base / "apart"
    apart.mkdir()
    (apart / "a.xar").write_bytes(above.read_bytes())
    words = ["xar", "graph", "--json", "--no-conflicts", str(apart / "a.xar")]
    done = place.run(*words, env={"LAYERFS_CACHE": str(place.base / "cache")})
    assert done.returncode == 0, done.stderr
    names = [package["name"] for package in json.loads(done.stdout)["packages"]]
    assert names[:3] == ["a.xar", "b.xar", "c.xar"] and names[3:] in (["lib.xar"], ["lib2.xar"])
