"""The socket: ours, closed to others, one daemon."""

import os
import socket
import stat
from pathlib import Path

import pytest

from layerfs.daemon.address import Address
from layerfs.errors import InvalidArgument, NotReady


def listen(address: Address) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address.inner)
    listening.listen()
    address.publish()
    return listening


def test_nobody_else_can_open_it(scratch: Path) -> None:
    address = Address(bytes(scratch / "deep/er/s.sock"))
    with listen(address):
        st = os.stat(scratch / "deep/er/s.sock")
        assert (stat.S_ISSOCK(st.st_mode), stat.S_IMODE(st.st_mode)) == (True, 0o600)
    address.close()
    assert os.listdir(scratch / "deep/er") == []


def test_what_a_killed_daemon_left_is_replaced(scratch: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(scratch / "s.sock"))
    address = Address(bytes(scratch / "s.sock"))
    with listen(address), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(scratch / "s.sock"))
    address.close()


def test_two_daemons_do_not_share_an_address(scratch: Path) -> None:
    address = Address(bytes(scratch / "s.sock"))
    with pytest.raises(NotReady, match="another daemon"):
        Address(bytes(scratch / "s.sock"))
    address.close()


def test_a_foreign_listener_stays(scratch: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(scratch / "s.sock"))
        other.listen()
        with pytest.raises(NotReady):
            Address(bytes(scratch / "s.sock"))


def test_what_is_no_socket_stays(scratch: Path) -> None:
    (scratch / "s.sock").write_text("mine")
    with pytest.raises(InvalidArgument, match="not a socket"):
        Address(bytes(scratch / "s.sock"))
    assert (scratch / "s.sock").read_text() == "mine"


def test_a_place_that_others_can_write_to_is_refused(scratch: Path) -> None:
    (scratch / "open").mkdir()
    (scratch / "open").chmod(0o777)
    with pytest.raises(PermissionError):
        Address(bytes(scratch / "open/s.sock"))
