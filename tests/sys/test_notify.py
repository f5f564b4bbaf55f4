"""What a service tells systemd, over a socket of the test."""

import socket
from pathlib import Path

import pytest

from layerfs.sys.notify import notify


@pytest.mark.parametrize("address", ["{place}/notify", "@layerfs-test-{name}"])
def test_readiness_reaches_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    spelled = address.format(place=tmp_path, name=tmp_path.name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + spelled[1:] if spelled.startswith("@") else spelled)
        monkeypatch.setenv("NOTIFY_SOCKET", spelled)
        notify("READY=1", "STATUS=serving")
        assert listener.recv(100) == b"READY=1\nSTATUS=serving"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_where_nobody_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
