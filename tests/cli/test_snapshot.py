"""`layerfs snapshot` as a person calls it: a life of layers by hand, with each driver."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Place
from tests.host import require


@pytest.fixture(params=["overlay", "fuse"])
def place(request: pytest.FixtureRequest, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    require("root", "kernel overlay", "fuse")
    monkeypatch.setenv("LAYERFS_ROOT", str(scratch / "store"))
    monkeypatch.setenv("LAYERFS_SNAPSHOTTER", request.param)
    (scratch / "place").mkdir()
    (scratch / "place/at").mkdir()
    return Place(scratch / "place")


def snapshot(place: Place, *words: str) -> str:
    return place.do("snapshot", *words)


def refused(place: Place, *words: str) -> tuple[int, str]:
    done = place.run("snapshot", *words)
    return done.returncode, done.stderr


def layer(place: Place, name: str, parent: str, **files: str | None) -> None:
    snapshot(place, "prepare", "key", *([parent] if parent else []))
    snapshot(place, "mount", "key", "at")
    for path, content in files.items():
        if content is None:
            (place.base / "at" / path).unlink()
        else:
            (place.base / "at" / path).write_text(content)
    snapshot(place, "umount", "at")
    snapshot(place, "commit", name, "key")


def test_life_of_layers_by_hand(place: Place) -> None:
    assert snapshot(place, "ls") == "there are no snapshots\n"
    layer(place, "base", "", a="1", b="1")
    layer(place, "top", "base", b="2", c="3", a=None)
    assert snapshot(place, "view", "look", "top").startswith("mount -t ")
    snapshot(place, "mount", "look", "at")
    assert {path.name: path.read_text() for path in (place.base / "at").iterdir()} == {"b": "2", "c": "3"}
    snapshot(place, "umount", "at")
    assert snapshot(place, "diff", "top") == "D /a\nM /b\nA /c\n"
    assert json.loads(snapshot(place, "diff", "top", "--json"))[0] == {"change": "D", "path": "/a"}
    assert snapshot(place, "diff", "base") == "A /a\nA /b\n"
    assert snapshot(place, "diff", "base", "top") == "A /a\nM /b\nD /c\n"
    assert snapshot(place, "ls").split() == "KEY PARENT KIND base committed look top view top base committed".split()
    assert snapshot(place, "ls", "kind==view", "name==base").split()[3:] == "base committed look top view".split()
    assert snapshot(place, "ls", "--tree") == "base\n└─ top\n   └─ look  (view)\n"
    snapshot(place, "rm", "look", "top", "base")
    assert snapshot(place, "ls", "--json") == "[]\n"
    assert os.listdir(place.base.parent / "store/drivers" / os.environ["LAYERFS_SNAPSHOTTER"] / "snapshots") == []


def test_labels_info_and_usage_as_json(place: Place) -> None:
    mounts = json.loads(snapshot(place, "prepare", "key", "--label", "a.b=1", "--label", "c=2", "--json"))
    assert json.loads(snapshot(place, "mounts", "key", "--json")) == mounts
    assert {"type", "source", "options"} == set(mounts[0])
    snapshot(place, "label", "key", "a.b=", "d=4")
    info = json.loads(snapshot(place, "info", "key", "--json"))
    assert (info["kind"], info["parent"]) == ("active", None)
    assert info["labels"] == {"layerfs.local": "1", "c": "2", "d": "4"}
    assert "label c: 2" in snapshot(place, "info", "key")
    assert json.loads(snapshot(place, "usage", "--json"))[0]["name"] == "key"
    assert "key" in snapshot(place, "usage", "key")


def test_what_cannot_be_done_is_one_sentence(place: Place) -> None:
    layer(place, "base", "", a="1")
    assert refused(place, "mounts", "base") == (
        1,
        "layerfs: snapshot base is committed, and has no mounts (hint: prepare or view one on top of it)\n",
    )
    for words in (["prepare", "x", "absent"], ["rm", "absent"], ["ls", "name=x"], ["prepare", "x", "--label", "x"]):
        status, said = refused(place, *words)
        assert (status, said.count("\n"), said.startswith("layerfs: ")) == (1, 1, True), words
    assert refused(place, "prepare")[0] == 2
    assert refused(place, "ls", "--snapshotter", "nonesuch")[1].startswith("layerfs: there is no snapshotter nonesuch")


def test_names_cannot_write_to_the_terminal(place: Place) -> None:
    snapshot(place, "prepare", "a\x1b[31mb\nc")
    for words in (["ls"], ["ls", "--tree"], ["usage"], ["info", "a\x1b[31mb\nc"]):
        said = snapshot(place, *words)
        assert "\x1b" not in said
        assert "a\\x1b[31mb\\nc" in said
