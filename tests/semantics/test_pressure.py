"""Point 9: cache pressure gives no wrong answer, FORGET frees, and 1024 descriptors serve a tree of 100,000 files."""

import os
import random
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.oracle.trees import Layer, directory, file
from tests.semantics.mounted import Mounted, append, read, root_only, servers, write
from tests.waiting import wait_until

FILES, DIRECTORIES = 100_000, 500
pytestmark = pytest.mark.alone  # drops the host's caches, and measures memory


@contextmanager
def pressure(union: Mounted) -> Iterator[None]:
    """Have the kernel forget this mount's names all the time, and now and then drop caches as an administrator does."""
    stop = threading.Event()

    def squeeze() -> None:
        rounds = 0
        while not stop.wait(0.01):
            union.forget()
            rounds += 1
            if rounds % 50 == 1:
                write(b"/proc/sys/vm/drop_caches", b"2")

    thread = threading.Thread(target=squeeze)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@root_only
def test_answers_stay_right_while_caches_are_dropped(union: Mounted) -> None:
    """fuse-overlayfs answers spurious ENOENT and EEXIST here; version 2.0 may lose a name."""
    lower: Layer = {b"d%d/f%d" % (d, f): file(b"%d" % f) for d in range(8) for f in range(20)}
    union.mount(lower, {b"d%d/g%d" % (d, f): file(b"g") for d in range(8) for f in range(10)})
    model = {name: union.tree().records[name].content for name in lower}
    model |= {b"d%d/g%d" % (d, f): b"g" for d in range(8) for f in range(10)}
    chance = random.Random(7)
    with pressure(union):
        for step in range(1500):
            name = chance.choice(sorted(model))
            match step % 6:
                case 0:
                    append(union / name, b"+")
                    model[name] += b"+"
                case 1:
                    os.unlink(union / name)
                    del model[name]
                case 2:
                    new = b"d%d/n%d" % (chance.randrange(8), step)
                    write(union / new, b"new")
                    model[new] = b"new"
                case 3:
                    new = b"d%d/r%d" % (chance.randrange(8), step)
                    os.rename(union / name, union / new)
                    model[new] = model.pop(name)
                case 4:
                    assert read(union / name) == model[name]
                case 5:
                    assert not os.path.lexists(union / b"d%d/absent%d" % (step % 8, step))
                    os.mkdir(union / b"dir%d" % step)
                    os.rename(union / b"dir%d" % step, union / b"dir")
                    os.rmdir(union / b"dir")
        assert {path for path, record in union.tree().records.items() if record.type == "-"} == set(model)
    assert {name: read(union / name) for name in model} == model
    union.remount()
    assert {name: read(union / name) for name in model} == model


@root_only
def test_renamed_directories_stay_right_while_caches_are_dropped(union: Mounted) -> None:
    layer: Layer = {b"top%d/mid/low/f" % index: file(b"%d" % index) for index in range(6)}
    union.mount(layer, {b"top%d/mid/other" % index: file() for index in range(6)})
    where = {index: b"top%d" % index for index in range(6)}
    with pressure(union):
        for step in range(120):
            index = step % 6
            new = b"moved%d" % step
            os.rename(union / where[index], union / new)
            where[index] = new
            if step % 3 == 0:
                append(union / where[index] + b"/mid/low/f", b"+")
            assert read(union / where[index] + b"/mid/low/f").startswith(b"%d" % index)
            assert union.names(where[index] + b"/mid") == [b"low", b"other"]
    assert union.names() == sorted(where.values())
    union.remount()
    assert union.names() == sorted(where.values())


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as source:
        return int(source.read().split()[1]) * resource.getpagesize()


def _only_server(union: Mounted) -> int:
    """The process that serves a mount, once no child of it asks for the root's attributes any more."""
    return wait_until(lambda: found[0] if len(found := servers(union)) == 1 else 0, "one server")


def _forget(union: Mounted, server: int) -> None:
    """Have the kernel forget every name, and the server hear of it before it is asked for more."""
    union.forget()
    wait_until(lambda: _has_slept(server))


def _has_slept(pid: int) -> bool:
    """Whether a process has slept for a while, so nothing that it waits for was there."""

    def seen() -> list[str]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return [line for line in lines if line.startswith(("State", "voluntary"))]

    first = seen()
    time.sleep(0.01)
    return "sleeping" in first[0] and seen() == first


@root_only
def test_forget_frees_and_few_descriptors_serve_many_files(union: Mounted) -> None:
    """A tree of 100,000 files is walked, read and modified by a server that may open 1024 descriptors."""
    union.build({b"d%03d" % index: directory() for index in range(DIRECTORIES)}, {b"low": file(b"low")})
    for index in range(FILES):
        path = union.lowers[0] + b"/d%03d/f%05d" % (index % DIRECTORIES, index)
        if index % 100:
            os.mknod(path)
        else:
            write(path, b"%d" % index)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    os.environ["LAYERFS_SESSION"] = "first"  # its 15 MB are not to come in the middle
    union.mount()
    server = _only_server(union)
    before = _resident(server)
    assert len(set(_walk(union))) == FILES + 1
    full = _resident(server)
    assert full - before < FILES * 600  # bytes; the promise for each inode that the kernel holds
    _forget(union, server)
    assert len(_walk(union)) == FILES + 1
    sizes = [max(full, _resident(server))]  # directories were read again while others were still kept
    while len(sizes) < 3 or sizes[-1] >= sizes[-3] + (8 << 20):  # what was forgotten is used again
        assert len(sizes) < 8, sizes  # what others drop from caches may be forgotten late: a round takes more once
        _forget(union, server)
        assert len(_walk(union)) == FILES + 1
        sizes.append(_resident(server))
    for index in range(0, FILES, 100):
        path = union / b"d%03d/f%05d" % (index % DIRECTORIES, index)
        assert read(path) == b"%d" % index
    for index in range(0, FILES, 200):
        append(union / b"d%03d/f%05d" % (index % DIRECTORIES, index), b"+")
        os.unlink(union / b"d%03d/f%05d" % ((index + 1) % DIRECTORIES, index + 1))
        os.mkdir(union / b"d%03d/new%05d" % (index % DIRECTORIES, index))
    assert len(os.listdir(f"/proc/{server}/fd")) < 1024
    assert len(_walk(union)) == FILES + 1 - FILES // 200
    union.check_log()


@pytest.mark.parametrize(
    ("union", "options"), [("rootless", ""), ("rootless", "nolane"), ("rootless-lane", "")], indirect=["union"]
)
def test_whoever_has_all_files_open_that_there_may_be_takes_nothing_else(union: Mounted, options: str) -> None:
    """What the lane had open was not counted: there was no descriptor for an import, and the server ended."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    layers = ({b"d%d/%s" % (index, name): file(b"x") for index in range(30)} for name in (b"f", b"g"))
    union.mount(*layers, options=options)
    with _hoarding(union / b"d0/a-"), _hoarding(union / b"d0/b-"):
        for index in range(1, 30):
            os.mkdir(union / b"d%d/new" % index)
            assert union.names(b"d%d" % index) == [b"f", b"g", b"new"]
    assert read(union / b"d1/f") == b"x"


@contextmanager
def _hoarding(names: bytes) -> Iterator[None]:
    """Have a child open files that only who made them can have open, until it may open no more."""
    is_full, full = os.pipe()
    end, ended = os.pipe()
    child = os.fork()
    if not child:
        with suppress(OSError):
            fds = [os.open(names + b"0", os.O_CREAT | os.O_RDWR, 0)]
            while len(fds) < 700:
                fds.append(os.open(names + b"%d" % len(fds), os.O_CREAT | os.O_RDWR, 0))
        os.write(fds[0], b"x")
        os.fsync(fds[0])
        os.close(ended)
        os.write(full, b"x")
        os.read(end, 1)
        os._exit(0)
    for fd in (full, end):
        os.close(fd)
    try:
        assert os.read(is_full, 1) == b"x"
        yield
    finally:
        for fd in (ended, is_full):
            os.close(fd)
        os.waitpid(child, 0)


def _walk(union: Mounted) -> list[int]:
    """The inode number of every file."""
    return [os.lstat(os.path.join(place, name)).st_ino for place, _, names in os.walk(union.root) for name in names]
