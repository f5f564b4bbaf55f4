"""What every test gets: a scratch directory that takes its mounts with it, and three watchmen.

Warnings are errors (pyproject.toml); a logged warning and a descriptor left open fail the test that caused them.
A test that expects a logged warning asks for `caplog` and looks at it.
"""

import gc
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import settings

from tests.host import Person, find_person
from tests.host import require as require_feature
from tests.turns import (
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_protocol,
    pytest_xdist_auto_num_workers,
)

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_protocol",
    "pytest_xdist_auto_num_workers",
]


settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

CLOSING = 5.0  # s for a thread to close what it has open

# What nohup and a shell's `&` have us ignore, the programs under test would inherit.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture
def require() -> Callable[..., None]:
    """`require("userns", "podman")`: skip where the host lacks one, fail where CI=true."""
    return require_feature


@contextmanager
def a_scratch(base: str | None = None) -> Iterator[Path]:
    """An empty directory everybody may walk through; what is mounted below it is unmounted in the end."""
    place = Path(tempfile.mkdtemp(prefix="layerfs-test-", dir=base))
    place.chmod(0o755)
    try:
        yield place
    finally:
        clear(place)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A scratch directory for the length of a test."""
    with a_scratch() as place:
        yield place


@pytest.fixture
def person(scratch: Path) -> Person:
    """An unprivileged user with a home of their own in the scratch directory."""
    require_feature("person")
    return find_person(scratch / "home")


def mounts_below(place: Path) -> list[str]:
    """Mountpoints at or below `place`, the last mounted first."""
    with open("/proc/self/mountinfo", "rb") as table:
        points = [line.split()[4].decode("unicode_escape").encode("latin-1") for line in table]
    prefix = os.fsencode(place)
    return [os.fsdecode(point) for point in reversed(points) if point == prefix or point.startswith(prefix + b"/")]


def clear(place: Path) -> None:
    """Unmount everything below `place`, lazily so that nothing can hang, then delete it."""
    for point in mounts_below(place):
        for command in (["umount", "-l", "-i", point], ["fusermount3", "-u", "-z", point]):
            if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
                break
    left = mounts_below(place)
    assert not left, f"cannot unmount {left}"
    shutil.rmtree(place, onerror=_open_and_retry)


def _open_and_retry(function: Callable[..., object], path: str, _error: object) -> None:
    """Overlay work directories are mode 0: their owner may open them. What a server took away meanwhile is gone."""
    if not os.path.lexists(path):
        return
    for place in (os.path.dirname(path), path):
        with suppress(FileNotFoundError):
            if not os.path.islink(place):
                os.chmod(place, 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        function(path)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: target for fd, target in found.items() if not target.endswith("/fd")}


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    before = _descriptors()
    yield
    left = {fd: target for fd, target in _descriptors().items() if before.get(fd) != target}
    patience = time.monotonic() + CLOSING
    while left:  # what only a reference cycle holds, or a thread that looks ahead and is about to end, is not a leak
        gc.collect()
        now = _descriptors()
        left = {fd: target for fd, target in left.items() if now.get(fd) == target}
        assert not left or time.monotonic() < patience, f"descriptors left open: {left}"


class _Warnings(logging.Handler):
    """Keeps every logged warning and error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _no_warning_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    handler = _Warnings()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    assert "caplog" in request.fixturenames or not handler.lines, f"logged: {handler.lines}"
