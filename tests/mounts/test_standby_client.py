"""Asking a process that stands by: what it is told, what it may answer, and who is not asked or not waited for."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.mounts import standby_client, standby_start
from layerfs.mounts.asking import BEGUN, DECLINED, ENDED
from layerfs.mounts.standby_client import BROKEN, ask
from layerfs.sys import peer
from tests.host import require
from tests.mounts.standbys import RuntimeDirectory
from tests.waiting import PATIENCE

STATUS = 7
STRANGER = 4711
Answer = Callable[[socket.socket], None]


class Runtime(RuntimeDirectory):
    """A runtime directory in which somebody listens that is like us."""

    @property
    def path(self) -> Path:
        began = Path("/proc/self/environ").read_bytes().split(b"\0")
        told = peer.environment_lines(began)
        name = peer.socket_name(peer.identity(os.getpid()), told, os.fsencode(self.program))
        return self.place / os.fsdecode(name)

    def listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(None)  # whatever the default is: on a busy machine it takes its time
        listener.bind(str(self.path))
        listener.listen()
        return listener

    def answered(self, answer: Answer, streams: tuple[int, int, int] = (0, 1, 2)) -> int | None:
        """Ask, and have a thread answer."""
        with self.listen() as listener, ThreadPoolExecutor(1) as pool:
            done = pool.submit(serve, listener, answer)
            try:
                return ask([b"program", b"a b"], streams)
            finally:
                done.result(PATIENCE)


def serve(listener: socket.socket, answer: Answer) -> None:
    with listener.accept()[0] as connection:
        connection.settimeout(None)
        answer(connection)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    made = Runtime(tmp_path)
    monkeypatch.delenv("LAYERFS_STANDBY", raising=False)
    monkeypatch.setattr(standby_start, "_started", (os.fsencode(made.program), len))
    monkeypatch.setattr(standby_client, "existing_runtime_directory", lambda: bytes(made.place))
    yield made


def saying(said: bytes) -> Answer:
    """Answer what was asked, without a look at it."""

    def answer(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(said)

    return answer


def take(connection: socket.socket) -> tuple[tuple[int, ...], list[bytes], list[bytes], list[str]]:
    """Read a request as `asked.py` does: numbers, words, environment, and what the descriptors lead to."""
    head, descriptors, _, _ = socket.recv_fds(connection, 16, 4)
    numbers = struct.unpack("=4I", head)
    targets = [os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors]
    for fd in descriptors:
        os.close(fd)
    left, text = numbers[2] + numbers[3], b""
    while len(text) < left:
        text += connection.recv(left)
    return numbers, text[: numbers[2]].split(b"\0")[:-1], text[numbers[2] :].split(b"\0")[:-1], targets


def test_words_environment_directory_umask_and_streams_are_told(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE", "1=2")
    monkeypatch.chdir(tmp_path)
    told = []
    heard, said = os.pipe()
    pipe = os.readlink(f"/proc/self/fd/{said}")
    former = os.umask(0o027)
    try:
        status = runtime.answered(lambda connection: told.append(take(connection)), (heard, said, said))
    finally:
        os.umask(former)
        os.close(heard)
        os.close(said)
    assert status is None  # nobody said that anything was begun
    ((numbers, words, environment, targets),) = told
    assert numbers[:2] == (0o027, signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
    assert words == [b"program", b"a b"]
    assert b"ONE=1=2" in environment
    assert targets == [pipe, pipe, pipe, str(tmp_path)]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (BEGUN + ENDED + bytes([STATUS]), STATUS),
        (BEGUN + BEGUN + ENDED + b"\0", 0),
        (ENDED + bytes([STATUS]), STATUS),
        (DECLINED, None),
        (b"", None),
        (b"?", None),
        (ENDED, None),
        (BEGUN, BROKEN),
        (BEGUN + ENDED, BROKEN),
        (BEGUN + DECLINED, BROKEN),
    ],
)
def test_what_is_answered(runtime: Runtime, said: bytes, status: int | None) -> None:
    assert runtime.answered(saying(said)) == status


def test_a_request_that_is_not_read_is_declined(runtime: Runtime) -> None:
    assert runtime.answered(lambda connection: None) is None


def test_one_that_was_stopped_is_not_waited_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby_client, "PATIENCE", 1)
    with runtime.listen():
        assert ask([b"program"]) is None


def test_one_with_too_many_questions_is_not_waited_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, and others have asked it: connect(2) waits for room in its queue."""
    monkeypatch.setattr(standby_client, "PATIENCE", 1)
    with runtime.listen() as listener:
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(runtime.path))
            assert ask([b"program"]) is None


STRANGERS = f"""
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
os.setresuid({STRANGER}, {STRANGER}, {STRANGER})
listener.listen()
print(flush=True)
print(len(listener.accept()[0].recv(1)))
"""


def test_a_stranger_is_told_nothing(runtime: Runtime) -> None:
    require("root")
    words = [sys.executable, "-c", STRANGERS, str(runtime.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout
        stranger.stdout.readline()
        assert ask([b"program"]) is None
        assert stranger.communicate(timeout=PATIENCE)[0] == "0\n"


def test_where_there_is_nobody_none_is_asked(runtime: Runtime) -> None:
    assert ask([b"program"]) is None
    runtime.path.touch()
    assert ask([b"program"]) is None
    runtime.path.unlink()
    runtime.path.symlink_to("nowhere")
    assert ask([b"program"]) is None


def test_nobody_is_asked_who_stands_by_for_another_program(runtime: Runtime) -> None:
    with runtime.listen() as listener:
        os.utime(runtime.program, (1, 1))
        assert ask([b"program"]) is None
        runtime.program.unlink()
        assert ask([b"program"]) is None
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONHASHSEED", "TZ"])
def test_nobody_is_asked_once_a_program_has_changed_what_it_was_started_with(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with runtime.listen() as listener:
        monkeypatch.setenv(name, "other")
        assert ask([b"program"]) is None
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_the_locale_that_python_has_set_is_no_change(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")
    assert runtime.answered(saying(ENDED + b"\0")) == 0


def test_the_switch_is_heeded(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFS_STANDBY", "no")
    with runtime.listen():
        assert ask([b"program"]) is None


def test_a_thread_may_ask_whatever_the_default_timeout_is(runtime: Runtime) -> None:
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.001)
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(runtime.answered, saying(BEGUN + ENDED + b"\0")).result(PATIENCE) == 0
    finally:
        socket.setdefaulttimeout(former)


def test_who_is_interrupted_waits_until_what_was_begun_is_undone(runtime: Runtime) -> None:
    undone = threading.Event()

    def answer(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(BEGUN)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""  # as the end of whoever asks
        undone.set()

    with pytest.raises(KeyboardInterrupt):
        runtime.answered(answer)
    assert undone.is_set()
