"""`layerfs store` as a person calls it."""

import json
import os
from pathlib import Path

import pytest

from layerfs.snapshots.library import open_store
from tests.cli.conftest import Place
from tests.host import Person, require


@pytest.fixture
def place(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    require("root", "kernel overlay")
    monkeypatch.setenv("LAYERFS_ROOT", str(scratch / "store"))
    (scratch / "place").mkdir()
    with open_store(scratch / "store") as store:
        snapshots = store.snapshotter("overlay")
        snapshots.prepare("key")
        snapshots.commit("base", "key")
        snapshots.prepare("work", "base")
        for data in (b"held", b"free"):
            with store.content.ingest() as taking:
                taking.write(data)
                blob, held = taking.commit()
            os.close(held)
            if data == b"held":
                store.records.put("image", "a", blob.digest, [blob.digest, "snapshot:overlay/base"])
    return Place(scratch / "place")


def test_sound_store_has_nothing_wrong(place: Place) -> None:
    assert place.do("store", "check") == "nothing is wrong\n"
    assert json.loads(place.do("store", "check", "--json")) == {"faults": []}


def test_what_is_wrong_is_said_and_mended(place: Place, scratch: Path) -> None:
    snapshots = scratch / "store/drivers/overlay/snapshots"
    (snapshots / "2").rename(scratch / "aside")
    (snapshots / "77").mkdir()
    blob = next((scratch / "store/content/packages/blob").glob("*/blob"))
    blob.chmod(0o644)
    blob.write_bytes(b"hell")
    done = place.run("store", "check")
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert said[:2] == ["overlay: snapshot work has no directory 2", "overlay: directory 77 belongs to no snapshot"]
    assert "is corrupt" in said[2]
    assert "layerfs store check --repair" in done.stderr
    done = place.run("store", "check", "--repair")
    assert "overlay: snapshot work has no directory 2 (mended)" in done.stdout
    assert sorted(os.listdir(snapshots)) == ["1", "2"]
    assert place.run("store", "check", "--json").stdout.count("overlay") == 0


def test_gc_keeps_what_is_held(place: Place, scratch: Path) -> None:
    place.do("snapshot", "--help")
    with open_store(scratch / "store") as store:
        store.snapshotter("overlay").remove("work")
    found = json.loads(place.do("store", "gc", "--json"))
    assert (found["snapshots"], len(found["blobs"]), found["bytes"]) == (1, 1, 4)
    assert place.do("store", "gc") == "nothing to collect\n"
    usage = json.loads(place.do("store", "usage", "--json"))
    assert usage["drivers"]["overlay"]["snapshots"] == {"view": 0, "active": 0, "committed": 1}
    assert usage["content"] == {"blobs": 1, "bytes": 4}
    assert place.do("store", "usage").startswith("overlay: 1 committed, 0 active, 0 view; ")


def test_users_store_is_their_own_and_closed(person: Person) -> None:
    from tests.host import BIN

    done = person.run([BIN / "layerfs", "store", "usage"])
    assert done.stdout == "the store is empty\n"
    root = person.home / ".local/share/layerfs"
    assert oct(root.stat().st_mode & 0o777) == "0o700"
    done = person.run([BIN / "layerfs", "store", "usage"], env={"XDG_DATA_HOME": str(person.home / "data")})
    assert (person.home / "data/layerfs/ledger.db").exists()


def test_directory_that_others_can_change_is_no_store(place: Place, scratch: Path) -> None:
    (scratch / "open").mkdir(mode=0o777)
    (scratch / "open").chmod(0o777)
    done = place.run("store", "usage", "--root", str(scratch / "open/store"))
    assert done.returncode == 1
    assert "is open to others" in done.stderr
    assert list((scratch / "open").iterdir()) == []
