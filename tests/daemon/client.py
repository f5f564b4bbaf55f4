"""A daemon in a process of its own, and a client that speaks containerd's protocol to it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import grpc

from layerfs.daemon.messages import SERVICES, SNAPSHOTS, full_name, message
from tests.host import BIN
from tests.waiting import PATIENCE


class Served:
    """A daemon: its process, its address, its store."""

    def __init__(self, place: Path, *options: str) -> None:
        self.place = place
        self.address = place / "layerfs.sock"
        self.store = place / "store"
        self._options = options
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a daemon at the address, and wait until it answers."""
        command: list[str | Path] = [BIN / "layerfs", "serve", "--address", self.address]
        command += ["--root", self.store, "--containerd", ""]
        with open(self.place / "log", "ab") as log:
            self.process = subprocess.Popen([*command, *self._options], stdin=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + PATIENCE
        while not connects(self.address):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)
        return self.process

    def log(self) -> str:
        """What the daemons at this address said so far."""
        return (self.place / "log").read_text()

    def kill(self) -> None:
        """End the daemon with no warning."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """End the daemon as systemd does, and return its exit status."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def connects(address: Path) -> bool:
    """Tell whether somebody listens at a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(address))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@contextmanager
def serving(place: Path, *options: str) -> Iterator[Served]:
    """Serve while the block lasts; a daemon that logged a bug fails the test."""
    daemon = Served(place, *options)
    try:
        yield daemon
        assert "a bug in" not in daemon.log(), daemon.log()
    finally:
        if daemon.process.poll() is None:
            daemon.stop()


class Client:
    """The ten RPCs by name: `client.Prepare(key="k")`; a context manager."""

    def __init__(self, address: Path, snapshotter: str = "layerfs-overlay") -> None:
        self.channel = grpc.insecure_channel(f"unix:{address}")
        self.snapshotter = snapshotter

    def __getattr__(self, name: str) -> Any:
        service = f"{SNAPSHOTS}.Snapshots"
        asked, answered, _, streamed = SERVICES[service][name]
        make = self.channel.unary_stream if streamed else self.channel.unary_unary
        request_class = message(SNAPSHOTS, asked)
        call = make(
            f"/{service}/{name}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=message(SNAPSHOTS, full_name(SNAPSHOTS, answered)).FromString,
        )

        def ask(**fields: Any) -> Any:
            request = request_class(**{"snapshotter": self.snapshotter} | fields)
            answer = call(request, timeout=PATIENCE, wait_for_ready=True)
            return list(answer) if streamed else answer

        return ask

    def commit(self, name: str, parent: str = "", **labels: str) -> None:
        """Commit a snapshot that changes nothing."""
        self.Prepare(key=f"making {name}", parent=parent)
        self.Commit(name=name, key=f"making {name}", labels=labels)

    def names(self, *filters: str) -> list[str]:
        """The names that List gives."""
        return [info.name for answer in self.List(filters=filters) for info in answer.info]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()


def code_of(call: Any, **fields: Any) -> str:
    """The status with which a call ends."""
    try:
        call(**fields)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return str(error.code().name)
    return "OK"
