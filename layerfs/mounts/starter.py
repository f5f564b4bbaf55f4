"""Starting server processes: by fork from programs with one thread, by exec from programs with more.

    start_forked      the command line: the child goes on with what its parent has opened; a process that was asked
                      to mount (asked.py) is such a child already, and goes on itself
    launch_by_exec    a daemon with threads (layerfs.mounts.launch_exec): a fresh interpreter launches, its child serves

Either way the caller is told that the server is ready, or what went wrong.
"""

import os
from collections.abc import Callable
from typing import Final, NoReturn

from layerfs.errors import LayerfsError
from layerfs.mounts.asking import asker, forget_asker, tell_end

READY: Final = b"\x01"  # alone on the pipe; anything else is a complaint
_BETWEEN: Final = "\0"  # message and hint


class Ready:
    """What a new server calls once it needs its starter no more; its starter returns then."""

    def __init__(self, said: int) -> None:
        self._said = said

    def __call__(self) -> None:
        os.write(self._said, READY)
        os.close(self._said)
        self._said = -1

    def complain(self, error: BaseException) -> bool:
        """Tell the starter why there will be no server; False if it listens no more."""
        if self._said < 0:
            return False
        os.write(self._said, spell(error))
        return True


class ReadyHere(Ready):
    """The same in a process that was asked to mount, and serves by itself."""

    def __init__(self) -> None:
        super().__init__(-1)

    def __call__(self) -> None:
        tell_end(0)

    def complain(self, error: BaseException) -> bool:
        """Leave the message to the server that was started, as long as a caller waits."""
        return asker() >= 0


def start_forked(serve: Callable[[Ready], None], what: str) -> int:
    """Fork a process that calls `serve`, and return its pid once that has called the `Ready` it gets.

    The process ends when `serve` does. What it raises until then is raised here, as a LayerfsError; later errors are
    logged. `what` is the server's name in messages. Only for processes of one thread.
    """
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        _be_the_server(serve, Ready(said), what)
    os.close(said)
    try:
        hear(heard, what)
    except BaseException:
        os.waitpid(pid, 0)
        raise
    return pid


def hear(heard: int, what: str) -> None:
    """Return when a server says that it is ready; LayerfsError with its complaint, or if it ends without a word."""
    with open(heard, "rb") as ear:
        said = ear.read(len(READY))
        if said == READY:
            return
        said += ear.read()
    if not said:
        raise LayerfsError(f"{what} ended as it started", "try again with --debug --log FILE")
    message, _, hint = os.fsdecode(said).partition(_BETWEEN)
    raise LayerfsError(message, hint)


def spell(error: BaseException) -> bytes:
    """Return an error as a server tells it to its starter."""
    if isinstance(error, LayerfsError):
        return os.fsencode(f"{error.message}{_BETWEEN}{error.hint}")
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return os.fsencode(f"{where}{error.strerror or error}")
    return os.fsencode(f"a bug: {type(error).__name__}: {error}{_BETWEEN}please report it")


def start(serve: Callable[[Ready], None], what: str) -> None:
    """Do what `start_forked` does; but a process that was asked to mount serves by itself, and does not return."""
    if asker() < 0:
        start_forked(serve, what)
    else:
        _serve_here(serve, what)


def _serve_here(serve: Callable[[Ready], None], what: str) -> NoReturn:
    """Serve and exit; what goes wrong before somebody was told that we are ready is raised."""
    ready = ReadyHere()
    try:
        serve(ready)
    except BaseException as error:
        if ready.complain(error):
            raise
        _log(what)
        os._exit(1)
    os._exit(0)


def _log(what: str) -> None:
    import logging

    logging.getLogger(__name__).exception("%s ended by a bug", what)


def _be_the_server(serve: Callable[[Ready], None], ready: Ready, what: str) -> NoReturn:
    """Serve and exit; nothing of what the parent would do at its end happens here."""
    status = 1
    forget_asker()
    try:
        serve(ready)
        status = 0
    except BaseException as error:
        if not ready.complain(error):
            _log(what)
    finally:
        os._exit(status)
