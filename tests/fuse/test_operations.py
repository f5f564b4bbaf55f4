"""The FUSE handlers on a union, called as pyfuse3 calls them, without a mount."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from pyfuse3 import FUSEError

from layerfs.fuse import copying
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.operations import Operations
from layerfs.fuse.threads import WORTH as LARGE
from layerfs.union.copyup import Staged
from layerfs.union.options import RedirectDir, UnionOptions
from tests.oracle.trees import file
from tests.union.box import Box

ROOT: Any = SimpleNamespace(uid=0, gid=0, umask=0o022, pid=0)
ANNE: Any = SimpleNamespace(uid=1000, gid=1000, umask=0o022, pid=0)
BIG = 3 * LARGE


@pytest.fixture
def box(scratch: Path) -> Iterator[Box]:
    layer = {b"f": file(b"data", 0o4755), b"d/big": file(b"x" * BIG), b"d/small": file(b"s")}
    with Box(scratch, layer, options=UnionOptions(redirect_dir=RedirectDir.OFF)) as box:
        yield box


@pytest.fixture
def ops(box: Box) -> Any:
    return Operations(box.union, ServeConfig(mountpoint=b"/nowhere", read_only=False, debug=False))


async def ino_of(ops: Any, *names: bytes) -> int:
    ino = 1
    for name in names:
        ino = (await ops.lookup(ino, name, ROOT)).st_ino
    return ino


async def test_a_rename_that_copies_a_tree_ends_with_its_client(
    ops: Any, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "is_killed", lambda client: client == 7)
    with pytest.raises(FUSEError) as caught:
        await ops.rename(1, b"d", 1, b"new", 0, SimpleNamespace(**{**vars(ROOT), "pid": 7}))
    assert caught.value.errno == errno.EINTR
    assert box.again().tree(b"d") == {b"big": b"x" * BIG, b"small": b"s"}


async def test_absent_name_is_an_answer_the_kernel_may_keep(ops: Any) -> None:
    entry = await ops.lookup(1, b"none", ROOT)
    assert (entry.st_ino, entry.entry_timeout) == (0, 86400)


async def test_lookups_are_counted_and_forgotten(ops: Any, box: Box) -> None:
    ino = await ino_of(ops, b"f")
    await ino_of(ops, b"f")
    await ops.forget([(ino, 1)])
    assert not box.is_clean()
    await ops.forget([(ino, 1)])
    assert box.is_clean()


async def test_large_copy_up_lets_others_in(ops: Any, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = trio.Event(), trio.Event()
    real = trio.to_thread.run_sync

    async def wait(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        begun.set()
        await go.wait()
        return await real(function, *args, **named)

    monkeypatch.setattr(trio.to_thread, "run_sync", wait)
    ino = await ino_of(ops, b"d", b"big")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ops.setxattr, ino, b"user.a", b"1", ROOT)
        nursery.start_soon(ops.setxattr, ino, b"user.b", b"2", ROOT)
        await begun.wait()
        assert (await ops.lookup(1, b"f", ROOT)).st_size == 4
        go.set()
    assert sorted(await ops.listxattr(ino, ROOT)) == [b"user.a", b"user.b"]
    assert box.read(b"d/big") == b"x" * BIG


async def test_copying_rename_lets_others_in(ops: Any, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole tree was copied inline: nobody was answered meanwhile."""
    seen: list[int] = []
    real = Staged.copy

    def copy(staged: Staged, *progress: Any) -> None:
        seen.append(len(seen))
        real(staged, *progress)

    monkeypatch.setattr(Staged, "copy", copy)
    done = False

    async def others() -> None:
        while not done:
            await trio.lowlevel.checkpoint()
            seen.append(-1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await ops.rename(1, b"d", 1, b"new", 0, ROOT)
        done = True
    assert -1 in seen[: seen.index(max(seen)) + 2]
    assert box.again().tree(b"new") == {b"big": b"x" * BIG, b"small": b"s"}


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda ops: ops.getattr(12345, ROOT), errno.ESTALE),
        (lambda ops: ops.unlink(1, b"d", ROOT), errno.EISDIR),
        (lambda ops: ops.rmdir(1, b"d", ROOT), errno.ENOTEMPTY),
        (lambda ops: ops.mkdir(1, b"f", 0o755, ROOT), errno.EEXIST),
        (lambda ops: ops.rename(1, b"none", 1, b"x", 0, ROOT), errno.ENOENT),
        (lambda ops: ops.getxattr(1, b"user.none", ROOT), errno.ENODATA),
        (lambda ops: ops.access(1, 4, ROOT), errno.ENOSYS),
    ],
)
async def test_errors_are_errnos(ops: Any, call: Callable[[Any], Any], code: int) -> None:
    with pytest.raises(FUSEError) as caught:
        await call(ops)
    assert caught.value.errno == code
