"""A store whose process is killed before any step of any operation: the next start brings it to before or after.

The last test is about the power: what a committed snapshot holds is there once `commit` has returned.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.errors import AlreadyExists, NotFound
from layerfs.snapshots.driver import PARENT_CHAIN, Capability, Info
from layerfs.snapshots.library import open_store
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store import rows
from layerfs.sys import dirs
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.value import value
from tests.contract.subjects import DRIVERS, Subject, a_subject
from tests.crash.steps import killed_at

MOST_STEPS = 200


@value
class Case:
    """An operation, and what must be there for it. `{}` in keys is the number of the try."""

    arrange: Callable[[Snapshotter, int], object]
    act: Callable[[Snapshotter, int], object]


def fill(snapshots: Snapshotter, key: str, parent: str = "", **files: str) -> None:
    """Prepare a snapshot and put files into it without mounting."""
    snapshots.prepare(key, parent)
    for name, content in files.items():
        Path(os.fsdecode(snapshots.layer(key).path), name).write_text(content)


def fill_and_remove(snapshots: Snapshotter, n: int) -> None:
    fill(snapshots, f"work{n}", "base", a="1", b="2")
    snapshots.remove(f"work{n}")


def relabel(snapshots: Snapshotter, n: int) -> Info:
    return snapshots.update(Info(f"work{n}", snapshots.stat(f"work{n}").kind, labels={"new": "1"}))


CASES = {
    "prepare": Case(lambda s, n: None, lambda s, n: s.prepare(f"work{n}", "base", {"a": "1"})),
    "prepare on nothing": Case(lambda s, n: None, lambda s, n: s.prepare(f"work{n}")),
    "view": Case(lambda s, n: None, lambda s, n: s.view(f"view{n}", "base")),
    "commit": Case(lambda s, n: fill(s, f"work{n}", "base", a="1"), lambda s, n: s.commit(f"name{n}", f"work{n}")),
    "commit without sync": Case(
        lambda s, n: fill(s, f"work{n}", "base", a="1"), lambda s, n: s.commit(f"name{n}", f"work{n}", volatile=True)
    ),
    "rebase": Case(
        lambda s, n: s.prepare(f"work{n}", labels={PARENT_CHAIN: "sha256:x"}),
        lambda s, n: s.commit(f"name{n}", f"work{n}", {"a": "1"}, parent="base"),
    ),
    "remove": Case(lambda s, n: fill(s, f"work{n}", "base"), lambda s, n: s.remove(f"work{n}")),
    "adopt": Case(lambda s, n: s.prepare(f"other{n}"), lambda s, n: s.adopt(f"work{n}", "base", "", {"a": "1"})),
    "remove one of two that share": Case(
        lambda s, n: s.adopt(f"work{n}", "base", ""), lambda s, n: s.remove(f"work{n}")
    ),
    "update": Case(lambda s, n: s.prepare(f"work{n}", labels={"old": "1"}), relabel),
    "cleanup": Case(fill_and_remove, lambda s, n: s.cleanup()),
}


@pytest.fixture(params=DRIVERS)
def subject(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Subject]:
    with a_subject(request.param, scratch) as found:
        yield found


def shape(snapshots: Snapshotter, n: int) -> list[tuple[str, str, str, dict[str, str]]]:
    """What there is of the n'th try, without its number."""
    found = [info for info in snapshots.walk() if info.name.endswith(f"{n}")]
    return [(info.name.removesuffix(f"{n}"), info.kind.word, info.parent, dict(info.labels)) for info in found]


def check(subject: Subject) -> None:
    """All that the ledger knows has a directory and mounts; after cleanup nothing else is left."""
    snapshots = subject.snapshots
    snapshots.cleanup()
    infos = list(snapshots.walk())
    for info in infos:
        if info.kind.word != "committed":
            assert snapshots.mounts(info.name)
        assert os.path.exists(snapshots.layer(info.name).path)
        snapshots.usage(info.name)
    root = subject.root / "drivers" / subject.name
    used = {_directory_of(snapshots.layer(info.name).path, root / "snapshots") for info in infos}
    assert {name: set(os.listdir(root / name)) for name in ("making", "trash", "snapshots")} == {
        "making": set(),
        "trash": set(),
        "snapshots": used,
    }


def _directory_of(layer: bytes, snapshots: Path) -> str:
    """The snapshot's directory that a layer is in; its name there changes when it has been packed."""
    return Path(os.fsdecode(layer)).relative_to(snapshots).parts[0]


@pytest.mark.parametrize("name", CASES)
def test_killed_before_any_step_it_is_before_or_after(name: str, subject: Subject) -> None:
    case = CASES[name]
    if name == "rebase" and Capability.REBASE not in subject.snapshots.capabilities:
        return
    subject.layer("base", a="1")
    case.arrange(subject.snapshots, 1000)
    before = shape(subject.snapshots, 1000)
    case.act(subject.snapshots, 1000)
    after = shape(subject.snapshots, 1000)

    def opened() -> Snapshotter:
        return open_store(subject.root).snapshotter(subject.name)

    for step in range(MOST_STEPS):
        n = 2000 + step
        case.arrange(subject.snapshots, n)
        subject.store.close()
        was_killed = killed_at(step, lambda snapshots, n=n: case.act(snapshots, n), opened)
        subject.open()
        assert shape(subject.snapshots, n) in (before, after), f"step {step}"
        check(subject)
        with suppress(AlreadyExists, NotFound):  # it was done already
            case.act(subject.snapshots, n)
        assert shape(subject.snapshots, n) == after, f"step {step}"
        if not was_killed:
            break
    assert 1 < step < MOST_STEPS - 1
    assert subject.view("base") == {"a": "1"}


def test_killed_while_it_is_opened_a_store_is_opened_by_the_next(subject: Subject) -> None:
    """What was interrupted before is settled by whoever comes through."""
    subject.layer("base", a="1")
    for step in range(MOST_STEPS):
        subject.snapshots.prepare(f"work{step}", "base")
        subject.snapshots.places.set_aside(step + 2)  # as a killed removal leaves it
        subject.store.close()
        was_killed = killed_at(step, lambda: open_store(subject.root).snapshotter(subject.name))
        subject.open()
        check(subject)
        if not was_killed:
            break
    assert step < MOST_STEPS - 1


def test_killed_while_it_mends_what_a_power_cut_left_a_store_is_mended_by_the_next(subject: Subject) -> None:
    """A directory of no snapshot, and an active snapshot without one, which is made again."""
    subject.layer("base", a="1")
    for step in range(MOST_STEPS):
        snapshots, key = subject.snapshots, f"work{step}"
        snapshots.prepare(key, "base")
        place = snapshots.places.place(int(Path(os.fsdecode(snapshots.layer(key).path)).parent.name))
        snapshots.driver.discard(place)
        dirs.remove(AT_FDCWD, place)
        os.mkdir(snapshots.places.place(100_000 + step))
        with subject.store.ledger.write() as db:
            rows.put_fact(db, f"session of {subject.name}", "before the power cut")
        subject.store.close()
        was_killed = killed_at(step, lambda: open_store(subject.root).snapshotter(subject.name))
        subject.open()
        check(subject)
        assert subject.snapshots.mounts(key)
        if not was_killed:
            break
    assert 5 < step < MOST_STEPS - 1


def test_killed_while_it_is_made_a_store_is_made_by_the_next(scratch: Path) -> None:
    for step in range(MOST_STEPS):
        root = scratch / f"store{step}"
        was_killed = killed_at(step, lambda root=root: open_store(root).close())
        with open_store(root) as store:
            assert store.records.all("image") == []
        if not was_killed:
            break
    assert 3 < step < MOST_STEPS - 1
