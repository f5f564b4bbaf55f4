"""Runs each test that takes `union` in a child process, as root or as the person, with a limit in time."""

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

from tests.host import find_person, require
from tests.oracle.subjects import abort
from tests.semantics.mounted import Mounted

LIMIT = 120  # s
_FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["root", "rootless"])
def union(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Mounted]:
    """A stack to be; the test's body runs as root and, once more, as a person without."""
    require("fuse", "user xattrs", "root" if request.param == "root" else "person")
    base = scratch / "stack"
    base.mkdir()
    if request.param == "rootless":
        find_person(scratch / "home").owns(base)
    yield Mounted(base)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Take over the call of tests about a mount."""
    if "union" not in pyfuncitem.fixturenames:
        return None
    near, far = _FORK.Pipe(duplex=False)
    union: Mounted = pyfuncitem.funcargs["union"]  # type: ignore[assignment]
    child = _FORK.Process(target=_run, args=(far, near, pyfuncitem), daemon=True)
    child.start()
    far.close()
    try:
        problem = near.recv() if near.poll(LIMIT) else f"did not end within {LIMIT} s"
    except EOFError:
        problem = "the test's process died"
    finally:
        near.close()
        _end(child, union)
    if problem:
        pytest.fail(problem, pytrace=False)
    return True


def _run(pipe: Connection, near: Connection, item: pytest.Function) -> None:
    near.close()
    try:
        os.umask(0o022)
        arguments: dict[str, Any] = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        if "rootless" in item.name and os.geteuid() == 0:
            _become_person(arguments["union"])
        item.obj(**arguments)
        arguments["union"].check_log()
        pipe.send("")
    except BaseException:
        pipe.send(traceback.format_exc())
    finally:
        pipe.close()
        os._exit(0)


def _become_person(union: Mounted) -> None:
    person = find_person(Path(os.fsdecode(union.base)).parent / "home")
    os.environ.clear()
    os.environ.update(person.environment())
    os.setgroups([])
    os.setgid(person.gid)
    os.setuid(person.uid)


def _end(child: "multiprocessing.process.BaseProcess", union: Mounted) -> None:
    child.join(5)
    if child.is_alive() and child.pid:
        abort(union.root)
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        child.join(5)
