"""How the tests share the processors: pytest-xdist's workers, and the few tests that must run alone.

`make test` starts a worker for each processor. A test marked `alone` drops caches, measures, or counts what the
whole host shares. It waits until the other workers have ended their tests, and none begins another while it runs. These
tests come last, so that nobody waits early. Without xdist (`pytest tests/ROOM`) the marks mean nothing.

Each worker lives in a mount namespace of its own. A process that makes a namespace copies every mount that it sees, and
a copy keeps a mount's server alive after its test has unmounted it, so no worker may see the mounts of another.
"""

import ctypes
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.host import PROJECT

MOUNTING_ROOMS = {
    *("cli", "contract", "crash", "e2e", "fuse", "mounts", "oracle", "powercut", "semantics"),
    *("conformance", "snapshots", "snapshotters", "xarexec"),
}
_CLONE_NEWNS, _MS_PRIVATE_BELOW = 0x20000, 1 << 18 | 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


def pytest_xdist_auto_num_workers() -> int | None:
    """`-n auto` for whoever may not have a mount namespace per worker: no workers."""
    return None if os.geteuid() == 0 else 0


def pytest_configure(config: pytest.Config) -> None:
    """Give a worker its own mount namespace."""
    config.addinivalue_line("markers", "alone: no other test runs meanwhile (see tests/turns.py)")
    config.addinivalue_line("markers", "mounts: needs a mount, which `make check` leaves out")
    _heed_signals()
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        _leave_shared_mounts()


def _heed_signals() -> None:
    """Let programs that tests start get signals that were ignored when this began: by nohup, or in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # whoever asked for nohup wants this process to go on


def _leave_shared_mounts() -> None:
    for result in (_libc.unshare(_CLONE_NEWNS), _libc.mount(b"none", b"/", None, _MS_PRIVATE_BELOW, None)):
        if result != 0:
            raise OSError(ctypes.get_errno(), "cannot make a mount namespace for a worker")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the rooms that mount, before `-m` selects; tests that run alone come last."""
    for item in items:
        _refuse_unsteady_name(item)
        if item.path.parent.name in MOUNTING_ROOMS:
            item.add_marker("mounts")
    items.sort(key=_is_alone)


def _refuse_unsteady_name(item: pytest.Item) -> None:
    """xdist's workers agree on tests by name: the text of a set or an address differs between processes."""
    if callspec := getattr(item, "callspec", None):
        sets = [value for value in callspec.params.values() if isinstance(value, set | frozenset) and len(value) > 1]
        if any(text in callspec.id for text in [*map(str, sets), " at 0x"]):
            raise pytest.UsageError(f"{item.nodeid}: this name differs between processes; give ids")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Wait for this test's turn; outside of pytest-timeout's wrapper, so that waiting is not counted."""
    with ExitStack() as turn:
        if hasattr(item.config, "workerinput"):
            turn.enter_context(_turn(fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH))
        return (yield)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextmanager
def _turn(kind: int) -> Iterator[None]:
    """Hold the lock for one test: shared by ordinary ones, exclusive for one that runs alone.

    Everybody passes a first lock on the way to the second. Who waits for an exclusive turn holds the first one, so no
    ordinary test overtakes it. Any two files serve: flock(2) on directories leaves nothing behind.
    """
    with ExitStack() as held:
        with _locked(PROJECT / "tests", fcntl.LOCK_EX):
            held.enter_context(_locked(PROJECT, kind))
        yield


@contextmanager
def _locked(place: os.PathLike[str], kind: int) -> Iterator[None]:
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough: a test's forked children may hold copies
        os.close(fd)
