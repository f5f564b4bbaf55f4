"""The daemon of an unprivileged user, inside the namespaces in which a rootless containerd runs."""

import json
import sys
from pathlib import Path

import pytest

from tests.host import BIN, PROJECT, Person, require

NAMESPACES = {
    "unshare": ["unshare", "--user", "--map-auto", "--map-root-user", "--mount"],
    "rootlesskit": ["rootlesskit", "--state-dir"],  # and a directory
}


def entered(person: Person, by: str) -> list[str]:
    """The command before a command that is to run in the namespaces."""
    if by == "rootlesskit":
        return [*NAMESPACES[by], str(person.home / "rootlesskit")]
    return NAMESPACES[by]


@pytest.mark.parametrize("by", NAMESPACES)
@pytest.mark.parametrize("snapshotter", ["layerfs-overlay", "layerfs-fuse", "layerfs-xar"])
def test_the_life_of_a_snapshot_without_root(person: Person, by: str, snapshotter: str) -> None:
    require("userns overlay", "subids", "fuse", by)
    place = person.home / "place"
    person.owns(place)
    command: list[str | Path] = [*entered(person, by), sys.executable, "-m", "tests.daemon.rootless", place]
    done = person.run([*command, snapshotter], check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    tree = {".": [], "kept": ["file"], "opaque": []}
    assert found == {"tree": tree | {"kept": ["file", "new"]}, "view": tree, "owner": 7, "left": []}


@pytest.mark.parametrize("by", NAMESPACES)
def test_the_check_says_what_can_be_served_without_root(person: Person, by: str) -> None:
    require("userns overlay", "subids", "fuse", by)
    done = person.run([*entered(person, by), str(BIN / "layerfs"), "serve", "--check"])
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert said["layerfs-overlay"] == "can be served, the default"
    assert said["layerfs-fuse"] == said["layerfs-xar"] == "can be served"
    assert str(person.home / "runtime") in said["address"]
