"""The ten RPCs against a daemon in a process of its own."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon.client import Client, Served, code_of
from tests.waiting import PATIENCE


def test_the_life_of_a_snapshot(client: Client) -> None:
    (mount,) = client.Prepare(key="a", labels={"x": "1"}).mounts
    assert mount.type == "bind"
    Path(mount.source, "file").write_text("data")
    client.Commit(name="base", key="a", labels={"y": "2"})
    info = client.Stat(key="base").info
    assert (info.kind, dict(info.labels), info.parent) == (3, {"y": "2"}, "")
    (mount,) = client.Prepare(key="b", parent="base").mounts
    assert mount.type == "overlay"
    assert [m.type for m in client.Mounts(key="b").mounts] == ["overlay"]
    assert client.View(key="v", parent="base").mounts[0].options[-1] == "ro"
    assert client.Usage(key="base").inodes == 2
    assert client.names() == ["b", "base", "v"]
    assert client.names("kind==committed", "name==v") == ["base", "v"]
    for key in ("b", "v", "base"):
        client.Remove(key=key)
    client.Cleanup()
    assert client.names() == []


def test_errors_are_containerds(client: Client) -> None:
    client.commit("base")
    client.Prepare(key="a", parent="base")
    assert code_of(client.Prepare, key="a") == "ALREADY_EXISTS"
    assert code_of(client.Prepare, key="c", parent="nosuch") == "NOT_FOUND"
    assert code_of(client.Prepare, key="c", parent="a") == "INVALID_ARGUMENT"
    assert code_of(client.Mounts, key="base") == "FAILED_PRECONDITION"
    assert code_of(client.Commit, name="n", key="base") == "FAILED_PRECONDITION"
    assert code_of(client.Remove, key="base") == "FAILED_PRECONDITION"
    assert code_of(client.Stat, key="nosuch") == "NOT_FOUND"
    assert code_of(client.List, filters=["labels.=="]) == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="") == "INVALID_ARGUMENT"
    assert code_of(client.Prepare, key="k", snapshotter="nosuch") == "NOT_FOUND"
    assert code_of(client.Prepare, key="k", labels={"l": "v" * 5000}) == "INVALID_ARGUMENT"


def test_update_changes_labels_alone(client: Client) -> None:
    client.commit("base", old="1", kept="2")
    answer = client.Update(
        info={"name": "base", "labels": {"new": "3"}}, update_mask={"paths": ["labels.new", "labels.old"]}
    )
    assert dict(answer.info.labels) == {"kept": "2", "new": "3"}
    assert code_of(client.Update, info={"name": "base"}, update_mask={"paths": ["parent"]}) == "INVALID_ARGUMENT"


def test_a_layer_without_parent_that_is_put_on_one_keeps_its_whiteouts(client: Client) -> None:
    client.commit("base")
    label = {"containerd.io/snapshot/parent-chain-id": "sha256:x"}
    (mount,) = client.Prepare(key="apart", labels=label).mounts
    assert mount.type == "overlay"
    assert {option.partition("=")[0] for option in mount.options} == {"upperdir", "workdir"}
    client.Commit(name="top", key="apart", parent="base")
    assert client.Stat(key="top").info.parent == "base"


def test_a_layer_that_is_there_is_not_asked_for_again(client: Client) -> None:
    ref = {"containerd.io/snapshot.ref": "sha256:abc"}
    client.Prepare(key="one/1/extract", labels=ref)
    client.Commit(name="one/2/sha256:abc", key="one/1/extract", labels=ref)
    assert code_of(client.Prepare, key="two/3/extract", labels=ref) == "ALREADY_EXISTS"
    names = client.names('labels."containerd.io/snapshot.ref"==sha256:abc')
    assert len(names) == 2
    client.Remove(key="one/2/sha256:abc")
    client.Cleanup()
    (left,) = client.names()
    assert client.Prepare(key="use", parent=left).mounts


def test_long_lists_come_in_batches(client: Client) -> None:
    for number in range(205):
        client.Prepare(key=f"k{number:03}")
    assert [len(answer.info) for answer in client.List()] == [100, 100, 5]


def test_a_list_of_large_labels_comes_in_messages_that_clients_take(client: Client) -> None:
    """A hundred of these in one message were 25 MB: containerd takes 16, and its collector failed from then on."""
    labels = {f"l{number:02}": "v" * 4000 for number in range(64)}
    for number in range(30):
        client.Prepare(key=f"k{number:02}", labels=labels)
    answers = client.List()
    assert sum(len(answer.info) for answer in answers) == 30
    assert max(answer.ByteSize() for answer in answers) <= 2 << 20


def test_many_clients_at_once_keep_every_invariant(client: Client) -> None:
    client.commit("base")

    def work(number: int) -> list[str]:
        codes = [code_of(client.Prepare, key=f"k{number % 32}", parent="base")]
        codes.append(code_of(client.Commit, name=f"n{number}", key=f"k{number % 32}"))
        return codes

    with ThreadPoolExecutor(64) as pool:
        codes = [code for each in pool.map(work, range(128)) for code in each]
    assert set(codes) <= {"OK", "ALREADY_EXISTS", "NOT_FOUND"}
    committed = client.names("kind==committed")
    active = client.names("kind==active")
    assert len(committed) - 1 + len(active) == codes.count("OK") - (len(committed) - 1)


def test_what_was_answered_outlives_a_kill(served: Served, client: Client) -> None:
    client.commit("base")
    client.Prepare(key="a", parent="base")
    before = [(m.type, list(m.options)) for m in client.Mounts(key="a").mounts]
    served.kill()
    served.start()
    assert [(m.type, list(m.options)) for m in client.Mounts(key="a").mounts] == before
    assert client.names() == ["a", "base"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_is_asked_to_end_ends_well(served: Served, number: signal.Signals) -> None:
    served.process.send_signal(number)
    assert served.process.wait(PATIENCE) == 0
    assert not served.address.exists()
