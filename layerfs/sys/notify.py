"""Telling systemd how a service is (sd_notify(3)); where nobody listens, nothing happens."""

import os
import socket
from contextlib import suppress


def notify(*words: str) -> None:
    """Send lines such as READY=1 to the socket in NOTIFY_SOCKET, if there is one."""
    address = os.environb.get(b"NOTIFY_SOCKET", b"")
    if address[:1] not in (b"/", b"@"):
        return
    if address.startswith(b"@"):
        address = b"\0" + address[1:]  # an abstract one (unix(7))
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
        speaker.sendto("\n".join(words).encode(), address)
