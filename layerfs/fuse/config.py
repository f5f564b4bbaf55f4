"""What a FUSE server is told; light to import, since it stands on the way to mount(2)."""

from collections.abc import Callable

from layerfs.value import value


def hold_signals() -> None:
    """Have what would end the server wait until it can unmount; until then it would leave a mount that is dead."""
    import signal  # half a millisecond, which who mounts by the kernel need not wait for

    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))


@value
class Idle:
    """Have a server leave after `seconds` without a request.

    `leave` unmounts unless something is in use, or what it is given, asked last of all, says that there was a request
    meanwhile; it tells whether it did. It is called in a thread while requests are answered: unmounting makes some.
    """

    seconds: float
    leave: Callable[[Callable[[], bool]], bool]


@value
class ServeConfig:
    """What the server must know beside its union; without `idle` it stays until it is unmounted."""

    mountpoint: bytes
    read_only: bool = False
    debug: bool = False
    idle: Idle | None = None
