"""`layerfs` and the driver that it means are two snapshotters to containerd, and share no key."""

import pytest

from layerfs.daemon.names import APART, NamedSnapshotter
from layerfs.daemon.served_store import ServedStore
from layerfs.errors import InvalidArgument
from tests.daemon.client import Client, Served, code_of


def names(served: Served, snapshotter: str, *filters: str) -> list[str]:
    with Client(served.address, snapshotter) as client:
        return client.names(*filters)


@pytest.mark.parametrize("name", ["layerfs", ""], ids=["layerfs", "no name"])
def test_the_same_keys_by_two_names_are_two_snapshots(served: Served, client: Client, name: str) -> None:
    """The collector of one removed the containers of the other, and an image of one was not unpacked for the other."""
    with Client(served.address, name) as other:
        for each in (client, other):
            each.commit("base")
            each.Prepare(key="a", parent="base", labels={"l": each.snapshotter or "none"})
        assert other.Stat(key="a").info.parent == "base"
        assert other.Update(info={"name": "a", "labels": {"l": "x"}}).info.name == "a"
        assert dict(client.Stat(key="a").info.labels) == {"l": "layerfs-overlay"}
        assert other.Usage(key="a").inodes == client.Usage(key="a").inodes
        assert list(other.Mounts(key="a").mounts[0].options) != list(client.Mounts(key="a").mounts[0].options)
        other.View(key="v", parent="base")
        assert client.names() == ["a", "base"]
        assert other.names() == ["a", "base", "v"]
        assert other.names("name==a", "parent==base,kind==view") == ["a", "v"]
        for key in ("v", "a", "base"):
            other.Remove(key=key)
        assert (client.names(), other.names()) == (["a", "base"], [])


def test_a_key_of_the_other_name_is_none(client: Client) -> None:
    assert code_of(client.Prepare, key=f"{APART}a") == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="a", parent=f"{APART}base") == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="@layerfs") == "OK"


def test_both_names_that_mean_the_best_are_one(served: Served) -> None:
    with Client(served.address, "") as client:
        client.Prepare(key="a")
    assert names(served, "layerfs") == ["a"]


def test_filters_that_are_none_are_told_at_once(served_store: ServedStore) -> None:
    for named in (served_store.named("layerfs"), served_store.named("layerfs-overlay")):
        assert isinstance(named, NamedSnapshotter)
        with pytest.raises(InvalidArgument):
            named.walk("name=?")
