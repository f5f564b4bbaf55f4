"""A socket that systemd passes."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.daemon.activation import inherited, relay
from layerfs.errors import InvalidArgument
from tests.daemon.client import Client, code_of
from tests.host import BIN
from tests.waiting import PATIENCE

# What systemd does: descriptor 3 listens, LISTEN_PID is who is to take it.
START = """
import os, sys
fd = int(sys.argv[1])
os.dup2(fd, 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_nothing_is_taken_that_was_passed_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert inherited() is None


def test_several_sockets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(InvalidArgument, match="2 sockets"):
        inherited()


def test_clients_that_came_first_are_answered(scratch: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(scratch / "passed.sock"))
        listening.listen()
        with Client(scratch / "passed.sock") as client:
            serve: list[str | Path] = [BIN / "layerfs", "serve", "--address", scratch / "own.sock"]
            serve += ["--root", scratch / "store"]
            start: list[str | Path] = [sys.executable, "-c", START, str(listening.fileno())]
            command = [*start, *serve, "--containerd", ""]
            daemon = subprocess.Popen(command, pass_fds=(listening.fileno(),), stderr=subprocess.PIPE)
            try:
                assert code_of(client.Prepare, key="k") == "OK"
                assert client.names() == ["k"]
            finally:
                daemon.terminate()
                _, said = daemon.communicate(timeout=PATIENCE)
            assert daemon.returncode == 0, said


def test_a_client_that_has_gone_is_let_go_once_the_daemon_has_ended_its_connection(scratch: Path) -> None:
    """The garbage collector took the connection first, and asyncio logged that as an error."""

    async def act() -> None:
        gone, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.read() == b"asked"
            gone.set()
            await go_on.wait()
            writer.write(b"too late")
            writer.close()
            ended.set()

        listening = socket.socket(socket.AF_UNIX)
        listening.bind(os.fspath(scratch / "passed.sock"))
        inner = await asyncio.start_unix_server(answer, scratch / "inner.sock")
        relaying = await relay(listening, os.fsencode(scratch / "inner.sock"))
        _, writer = await asyncio.open_unix_connection(scratch / "passed.sock")
        writer.write(b"asked")
        writer.close()
        await gone.wait()
        for _ in range(10):  # the relay's own end of the lost connection is closed
            await asyncio.sleep(0)
        gc.collect()
        go_on.set()
        await ended.wait()
        relaying.close()
        inner.close()

    asyncio.run(act())
