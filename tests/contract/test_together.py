"""Many threads and several processes at one store: every invariant holds, and nobody starves."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from layerfs.errors import AlreadyExists, LayerfsError, NotFound, NotReady
from layerfs.snapshots.driver import SnapshotKind
from layerfs.snapshots.library import open_store
from layerfs.snapshots.maintenance import check
from layerfs.snapshots.snapshotter import Snapshotter
from tests.contract.subjects import Subject

TASKS = 64


def together(*acts: Callable[[], object]) -> list[str]:
    """Run all at once; the names of what each raised."""
    raised: list[str] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except LayerfsError as error:
            raised.append(type(error).__name__)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(raised)


def life(snapshots: Snapshotter, number: int) -> None:
    snapshots.prepare(f"key{number}", "base")
    snapshots.commit(f"name{number}", f"key{number}", volatile=True)
    snapshots.view(f"view{number}", f"name{number}")
    with suppress(NotReady):
        snapshots.remove(f"name{number}")
        raise AssertionError("it has a child")
    snapshots.remove(f"view{number}")
    if number % 2:
        snapshots.remove(f"name{number}")
    snapshots.cleanup()


def test_lives_of_many_snapshots_at_once(subject: Subject) -> None:
    subject.layer("base", a="1")
    assert together(*(partial(life, subject.snapshots, n) for n in range(TASKS))) == []
    kept = [info.name for info in subject.snapshots.walk("name~=^name")]
    assert kept == sorted(f"name{n}" for n in range(0, TASKS, 2))
    assert check(subject.store, repair=False) == []


def test_one_key_is_given_once_and_one_name_is_taken_once(subject: Subject) -> None:
    snapshots = subject.snapshots
    assert together(*[lambda: snapshots.prepare("key")] * 16) == ["AlreadyExists"] * 15
    for number in range(16):
        snapshots.prepare(f"key{number}")
    commits = [partial(snapshots.commit, "name", f"key{n}", volatile=True) for n in range(16)]
    assert together(*commits) == ["AlreadyExists"] * 15
    assert len(list(snapshots.walk("kind==active"))) == 16
    raised = together(*[lambda: snapshots.commit(f"name{threading.get_ident()}", "key", volatile=True)] * 8)
    assert raised == ["NotFound"] * 7
    assert together(*[lambda: snapshots.remove("name")] * 8) == ["NotFound"] * 7


def test_parent_that_is_removed_meanwhile_never_leaves_an_orphan(subject: Subject) -> None:
    snapshots = subject.snapshots
    for number in range(20):
        snapshots.prepare("key")
        snapshots.commit(f"parent{number}", "key", volatile=True)
        together(
            partial(snapshots.remove, f"parent{number}"),
            partial(snapshots.prepare, f"child{number}", f"parent{number}"),
        )
        names = {info.name for info in snapshots.walk()}
        assert (f"parent{number}" in names) == (f"child{number}" in names)
    assert check(subject.store, repair=False) == []


def test_snapshot_that_is_removed_meanwhile_is_not_found(subject: Subject) -> None:
    snapshots = subject.snapshots
    for number in range(20):
        key = f"key{number}"
        snapshots.prepare(key)
        raised = together(
            partial(snapshots.remove, key),
            partial(snapshots.usage, key),
            partial(snapshots.mounts, key),
            partial(snapshots.commit, f"name{number}", key, volatile=True),
        )
        assert set(raised) <= {"NotFound", "NotReady"}
        snapshots.cleanup()
    assert check(subject.store, repair=False) == []


def test_several_processes_share_one_store(subject: Subject) -> None:
    subject.layer("base", a="1")
    children = []
    for child in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with open_store(subject.root) as store:
                    snapshots = store.snapshotter(subject.name)
                    for number in range(10):
                        life(snapshots, 100 * child + number)
                        with suppress(AlreadyExists, NotFound):
                            snapshots.prepare("contended")
                        with suppress(AlreadyExists, NotFound):
                            snapshots.remove("contended")
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for number in range(1000, 1010):
        life(subject.snapshots, number)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert len(list(subject.snapshots.walk("name~=^name"))) == 20
    assert all(info.kind is SnapshotKind.COMMITTED for info in subject.snapshots.walk("name~=^name"))
    assert check(subject.store, repair=False) == []
