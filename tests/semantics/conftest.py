"""Runs each test that takes `union` in a process of its own, as root or as the person, with a limit in time.

    pytest -- keeper (a mount namespace of its own; takes every mount away) -- the test's body, perhaps as the person

No other namespace can hold copies of the mounts, and none of them outlives its test.
"""

import ctypes
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import mounts_below
from tests.host import find_person, require
from tests.oracle.subjects import abort
from tests.semantics.mounted import Mounted, servers
from tests.waiting import PATIENCE, wait_until

LIMIT = 200  # s; more than a wait (tests/waiting.py), less than pytest's own limit
_FORK = multiprocessing.get_context("fork")
_CLONE_NEWNS, _MS_PRIVATE, _MNT_DETACH = 0x20000, 1 << 18 | 1 << 14, 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(params=["root", "rootless", "lane", "rootless-lane"])
def union(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Mounted]:
    """A stack to be; the test's body runs as root without a lane, as a person without root, and as both with a lane.

    That lane answers from the first request on; the person's other mounts get one as any mount does, after dozens.
    """
    rootless = request.param.startswith("rootless")
    require("fuse", "user xattrs", "person" if rootless else "root")
    base = scratch / "stack"
    base.mkdir()
    if rootless:
        find_person(scratch / "home").owns(base)
    yield Mounted(base, natively=request.param.endswith("lane"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Take over the call of tests about a mount."""
    if "union" not in pyfuncitem.fixturenames:
        return None
    problem = _result_of(_keep, pyfuncitem, LIMIT + 30)
    if problem:
        pytest.fail(problem, pytrace=False)
    return True


def _union_of(item: pytest.Function) -> Mounted:
    union = item.funcargs["union"]
    assert isinstance(union, Mounted)
    return union


def _result_of(target: Any, item: pytest.Function, limit: float) -> str:
    """Run `target(pipe, item)` in a child; what it sends, empty if all is well."""
    near, far = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=target, args=(far, item))
    child.start()
    far.close()
    try:
        problem = str(near.recv()) if near.poll(limit) else f"did not end within {limit} s"
    except EOFError:
        problem = "the test's process died"
    finally:
        near.close()
        child.join(1)
        if child.is_alive() and child.pid:
            abort(_union_of(item).root)
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.join(PATIENCE)
    return problem


def _keep(pipe: Connection, item: pytest.Function) -> None:
    """Have the body run, then take away whatever it left mounted."""
    isolated = _libc.unshare(_CLONE_NEWNS) == 0 and _libc.mount(b"none", b"/", None, _MS_PRIVATE, None) == 0
    problem = _result_of(_run, item, LIMIT)
    if isolated:
        union = _union_of(item)
        for point in mounts_below(Path(os.fsdecode(union.base))):
            _libc.umount2(os.fsencode(point), _MNT_DETACH)
        wait_until(lambda: not servers(union), "the server's end")  # it may still write to what is deleted next
    pipe.send(problem)
    os._exit(0)


def _run(pipe: Connection, item: pytest.Function) -> None:
    try:
        os.umask(0o022)
        arguments: dict[str, Any] = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        if "rootless" in item.name and os.geteuid() == 0:
            _become_person(arguments["union"])
        item.obj(**arguments)
        arguments["union"].check_log()
        pipe.send("")
    except BaseException:
        pipe.send(f"{traceback.format_exc()}\n{_union_of(item).said()}")
    finally:
        os._exit(0)


def _become_person(union: Mounted) -> None:
    person = find_person(Path(os.fsdecode(union.base)).parent / "home")
    ours = {name: value for name, value in os.environ.items() if name.startswith("LAYERFS_")}
    os.environ.clear()
    os.environ.update(person.environment() | ours)
    os.setgroups([])
    os.setgid(person.gid)
    os.setuid(person.uid)
