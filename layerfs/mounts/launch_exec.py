"""Launching from a program with threads: such a program must not fork and go on, so a fresh interpreter launches.

`launch_by_exec` runs `python -m layerfs.mounts.launch_exec`. That process reads the request from a sealed memfd
(descriptor 3) and reports success or the error on a pipe (4). If descriptor 5 is a mounted FUSE device, it serves that
one instead of mounting another.
"""

import fcntl
import os
import sys
from typing import Final

from layerfs.mounts.launch import launch
from layerfs.mounts.process import Process
from layerfs.mounts.starter import READY, hear, spell
from layerfs.spec.options import MountRequest, parse, request
from layerfs.spec.printing import options_of, print_options
from layerfs.value import replace

REQUEST: Final = 3
SAID: Final = 4
DEVICE: Final = 5
_FREE: Final = 16  # above the three: dup2 must not take one for another
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_NUL: Final = b"\0"


def launch_by_exec(wanted: MountRequest, process: Process, device: int | None = None) -> None:
    """Do what `launch` does, from any thread of any program; `process` without foreground and idle.

    With `device`, a FUSE device that is mounted at the mountpoint already, that one is served; it stays the caller's
    to close. Raises LayerfsError with what the other process said, OSError.
    """
    content = encode(wanted, process)
    heard, said = os.pipe()
    given = {REQUEST: _sealed(content), SAID: said} | ({} if device is None else {DEVICE: device})
    high = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FREE) for target, fd in given.items()}
    os.close(given[REQUEST])
    os.close(said)
    command = [sys.executable, "-P", "-m", "layerfs.mounts.launch_exec", *(["device"] if device is not None else [])]
    try:
        pid = os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in high.items()],
            setsigmask=(),
        )
    except BaseException:
        os.close(heard)
        raise
    finally:
        for fd in high.values():
            os.close(fd)
    try:
        hear(heard, "the process that mounts")
    finally:
        os.waitpid(pid, 0)


def encode(wanted: MountRequest, process: Process) -> bytes:
    """Return a request and how its server runs, without what only this process can have."""
    assert not process.foreground and process.idle is None
    options = print_options(options_of(wanted))
    words = [options, wanted.mountpoint, os.fsencode(wanted.asked), b"debug" if process.debug else b""]
    return _NUL.join([*words, process.log or b""])


def decode(content: bytes) -> tuple[MountRequest, Process]:
    """Return what `encode` was given."""
    options, mountpoint, asked, debug, log = content.split(_NUL)
    wanted = replace(request(parse([options]), mountpoint, b"/"), asked=os.fsdecode(asked))
    return wanted, Process(debug=bool(debug), log=log or None)


def _sealed(content: bytes) -> int:
    """Return a memfd that nobody can change any more."""
    fd = os.memfd_create("layerfs-request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def main(with_device: bool) -> int:
    """Launch what descriptor 3 asks for, tell descriptor 4, and leave."""
    try:
        for fd in (REQUEST, SAID, *((DEVICE,) if with_device else ())):
            os.set_inheritable(fd, False)
        with open(REQUEST, "rb") as file:
            file.seek(0)
            wanted, process = decode(file.read())
        launch(wanted, process, DEVICE if with_device else None, kept=(SAID,))
    except BaseException as error:
        os.write(SAID, spell(error))
        return 1
    os.write(SAID, READY)
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:] == ["device"]))
