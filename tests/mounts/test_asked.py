"""A child becomes who has sent a request, does it, and tells how it ended."""

import array
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from layerfs.mounts import asking
from layerfs.mounts.asked import Likeness, take_over
from layerfs.sys import peer

STATUS = 7
_children: list[int] = []


def request(words: bytes, environment: bytes, cwd: Path, out: int, *, umask: int = 0o022) -> tuple[bytes, list[int]]:
    """What `cli/program.c` sends: the bytes, and the descriptors that come with the first of them."""
    head = struct.pack("=4I", umask, 0, len(words), len(environment))
    null = os.open(os.devnull, os.O_RDWR)
    return head + words + environment, [null, out, null, os.open(cwd, os.O_PATH)]


def ask(run: Callable[[Sequence[str]], int], sent: bytes, descriptors: list[int], told: bytes = b"") -> socket.socket:
    """Have a child take over what is sent; return the end on which it answers."""
    own = Likeness(peer.identity(os.getpid()), told)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        take_over(theirs, own, run)
    _children.append(child)
    theirs.close()
    if sent:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with suppress(BrokenPipeError):  # declined already
            ours.sendmsg([sent[:16]], rights)
            ours.sendall(sent[16:])
    for fd in set(descriptors):
        os.close(fd)
    return ours


def said(ours: socket.socket) -> bytes:
    with ours:
        answer = ours.recv(64)
        with suppress(ConnectionResetError):  # what was sent is not read to its end
            answer += b"".join(iter(lambda: ours.recv(64), b""))
    wait_for_it()
    return answer


def wait_for_it() -> None:
    """Wait for the child that took over last; the worker that runs us may have others."""
    os.waitpid(_children.pop(), 0)


def tell(words: Sequence[str]) -> int:
    """Write what this process is to its stdout."""
    mask = os.umask(0)
    os.write(1, f"{list(words)} {os.getcwd()} {mask:o} {dict(os.environ)}".encode())
    return STATUS


def test_words_environment_directory_umask_and_streams_are_the_senders(tmp_path: Path) -> None:
    heard, out = os.pipe()
    sent = request(b"layerfs\0a b\0", b"HOME=/h\0A=1=2\0", tmp_path, out, umask=0o027)
    assert said(ask(tell, *sent)) == asking.ENDED + bytes([STATUS])
    with open(heard) as file:
        shown = {"HOME": "/h", "A": "1=2"}
        assert file.read() == f"{['layerfs', 'a b']} {tmp_path} 27 {shown}"


def test_a_sender_unlike_us_is_declined(tmp_path: Path) -> None:
    sent = request(b"layerfs\0", b"LANG=de\0", tmp_path, os.dup(1))
    assert said(ask(tell, *sent, told=b"LANG=C\n")) == asking.DECLINED


def test_what_is_for_the_senders_own_process_is_declined(tmp_path: Path) -> None:
    def run(_: Sequence[str]) -> int:
        asking.decline_if_asked()
        return 0

    assert said(ask(run, *request(b"layerfs\0", b"", tmp_path, os.dup(1)))) == asking.DECLINED


@pytest.mark.parametrize("cut", [0, 8, 16, 20], ids=str)
def test_half_a_request_is_declined(tmp_path: Path, cut: int) -> None:
    sent, descriptors = request(b"layerfs\0", b"", tmp_path, os.dup(1))
    ours = ask(tell, sent[:cut], descriptors if cut else [])
    ours.shutdown(socket.SHUT_WR)
    assert said(ours) == asking.DECLINED
    if not cut:
        for fd in set(descriptors):
            os.close(fd)


def test_a_request_without_descriptors_is_declined(tmp_path: Path) -> None:
    sent, descriptors = request(b"layerfs\0", b"", tmp_path, os.dup(1))
    assert said(ask(tell, sent, [])) == asking.DECLINED
    for fd in set(descriptors):
        os.close(fd)


def test_a_usage_error_ends_with_its_status(tmp_path: Path) -> None:
    def run(_: Sequence[str]) -> int:
        sys.exit(2)

    assert said(ask(run, *request(b"layerfs\0", b"", tmp_path, os.dup(1)))) == asking.ENDED + b"\2"


def test_who_ends_before_the_answer_interrupts_what_was_begun(tmp_path: Path) -> None:
    def run(_: Sequence[str]) -> int:
        try:
            asking.tell_begun()
            time.sleep(1000)
        except KeyboardInterrupt:
            (tmp_path / "undone").touch()
        return 130

    with ask(run, *request(b"layerfs\0", b"", tmp_path, os.dup(1))) as ours:
        assert ours.recv(1) == asking.BEGUN
    wait_for_it()
    assert (tmp_path / "undone").exists()


def test_programs_that_are_started_see_the_environment(tmp_path: Path) -> None:
    heard, out = os.pipe()

    def run(_: Sequence[str]) -> int:
        return subprocess.run(["/usr/bin/env"], env=None, check=False).returncode

    assert said(ask(run, *request(b"layerfs\0", b"ONLY=this\0", tmp_path, out))) == asking.ENDED + b"\0"
    with open(heard) as file:
        assert file.read() == "ONLY=this\n"
