"""What a server attends to while it has no session."""

import errno
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.fuse import attending, mount_child
from layerfs.fuse.attending import Attending
from layerfs.fuse.config import Idle, ServeConfig, hold_signals
from tests.waiting import PATIENCE


class Loop:
    """The reader's side, without a device."""

    def __init__(self, watched: Attending) -> None:
        self.attending = watched
        self.poll = select.poll()
        watched.watch(self.poll)

    def step(self) -> bool:
        """Wait for one thing; True when the prelude is over."""
        patience = self.attending.patience()
        ready = self.poll.poll(PATIENCE * 1000 if patience is None else patience)
        over = self.attending.is_over(fd for fd, _ in ready)
        self.attending.look()
        return over


@pytest.fixture(autouse=True)
def held() -> Iterator[None]:
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    hold_signals()
    yield
    while signal.sigtimedwait({signal.SIGTERM}, 0) is not None:
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, former)


@pytest.fixture
def imported() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


class Importer:
    """Counts how often the import is begun."""

    def __init__(self, imported: int) -> None:
        self.begun, self._imported = 0, imported

    def __call__(self) -> int:
        self.begun += 1
        return self._imported


def never() -> int:
    raise AssertionError("no import pays here")


def leaving(status: int) -> Callable[[bytes], int]:
    return lambda _: mount_child.ask(lambda: status)


def test_the_import_begins_when_the_answers_have_cost_as_much(imported: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "_delayed", lambda: 1.0)
    importer = Importer(imported)
    with Attending(ServeConfig(b"/"), importer) as watched:
        loop = Loop(watched)
        watched.has_spent(attending.PAYS / 2)
        assert not importer.begun
        for _ in range(2):
            watched.has_spent(attending.PAYS)
        assert importer.begun == int(True)
        os.eventfd_write(imported, 1)
        watched.met(0, shows_root=True)
        assert loop.step()


def test_time_that_others_had_the_processor_pays_no_import(imported: int, monkeypatch: pytest.MonkeyPatch) -> None:
    delays = iter((1.0, 1.0 + attending.PAYS, 1.0 + attending.PAYS))
    monkeypatch.setattr(attending, "_delayed", delays.__next__)
    importer = Importer(imported)
    with Attending(ServeConfig(b"/"), importer) as watched:
        watched.has_spent(attending.PAYS)
        watched.has_spent(attending.PAYS * 1.9)  # cannot suffice: nobody is asked
        assert not importer.begun
        watched.has_spent(attending.PAYS * 2.1)
        assert importer.begun


@pytest.mark.parametrize(("said", "spent", "begins"), [("first", 0.0, True), ("needed", 1e9, False)])
def test_the_environment_says_when_the_import_begins(
    imported: int, monkeypatch: pytest.MonkeyPatch, said: str, spent: float, begins: bool
) -> None:
    monkeypatch.setenv(attending.SWITCH, said)
    delays = iter((0.0, 1.0))  # on a busy machine
    monkeypatch.setattr(attending, "_delayed", delays.__next__)
    importer = Importer(imported)
    with Attending(ServeConfig(b"/"), importer) as watched:
        watched.has_spent(spent)
    assert bool(importer.begun) == begins


def test_a_signal_has_the_mount_left_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_child, "leave", leaving(mount_child.GONE))
    with Attending(ServeConfig(b"/"), never) as watched:
        watched.met(0, shows_root=True)
        loop = Loop(watched)
        signal.raise_signal(signal.SIGTERM)
        assert not loop.step()
        assert watched.is_leaving
        with pytest.raises(OSError) as end:
            loop.step()
        assert end.value.errno == errno.ENODEV


def test_a_mount_in_use_ends_after_a_grace_and_a_second_signal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_child, "leave", leaving(mount_child.DETACHED))
    monkeypatch.setattr(attending, "GRACE", 0.2)
    with Attending(ServeConfig(b"/"), never) as watched:
        watched.met(0, shows_root=True)
        loop = Loop(watched)
        signal.raise_signal(signal.SIGTERM)
        assert not loop.step()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(OSError) as end:
            while True:
                assert not loop.step()
        assert end.value.errno == errno.ENODEV


def test_a_session_is_told_of_the_signal_that_we_obey(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have been lost: the mount stayed."""
    monkeypatch.setattr(mount_child, "leave", leaving(mount_child.GONE))
    with Attending(ServeConfig(b"/"), never) as watched:
        Loop(watched).attending.met(0, shows_root=True)
        signal.raise_signal(signal.SIGTERM)
        Loop(watched).step()
    assert signal.SIGTERM in signal.sigpending()
    os.wait()


@pytest.mark.parametrize("asked", [False, True])
def test_the_kernel_is_made_to_look_at_a_root_that_nobody_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    shown = tmp_path / "shown"

    def stat(_: Attending) -> int:
        shown.touch()
        return mount_child.GONE

    monkeypatch.setattr(Attending, "_stat_root", stat)
    monkeypatch.setattr(attending, "UNSEEN", 0.01)
    with Attending(ServeConfig(os.fsencode(tmp_path)), never) as watched:
        loop = Loop(watched)
        if asked:
            watched.met(0, shows_root=True)
            assert watched.patience() is None
        else:
            loop.step()
        watched.show_root()
    watched.reap()
    assert shown.exists() != asked


@pytest.mark.parametrize("uses", [False, True])
def test_an_idle_mount_is_left_unless_somebody_comes(uses: bool) -> None:
    said: list[bool] = []
    used: list[Attending] = []

    def leave(unused: Callable[[], bool]) -> bool:
        for each in used:
            each.met(1, shows_root=False)
        said.append(unused())
        return said[-1]

    with Attending(ServeConfig(b"/", idle=Idle(0.05, leave)), never) as watched:
        loop = Loop(watched)
        watched.met(0, shows_root=True)
        if uses:
            used.append(watched)
        while not said:
            loop.step()
        loop.step()
    assert said[0] == (not uses)


def test_who_leaves_an_idle_mount_clears_away_before_the_server_ends() -> None:
    """The mount was gone, so the server ended, and its lock and mountpoint stayed."""
    unmounted, cleared = threading.Event(), threading.Event()

    def leave(_unused: Callable[[], bool]) -> bool:
        unmounted.set()
        time.sleep(0.05)
        cleared.set()
        return True

    with Attending(ServeConfig(b"/", idle=Idle(0.01, leave)), never) as watched:
        watched.met(0, shows_root=True)
        loop = Loop(watched)
        while not unmounted.is_set():
            loop.attending.look()
    watched.reap()
    assert cleared.is_set()
