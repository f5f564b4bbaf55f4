"""User ids as they are outside of our user namespace."""

from typing import Final

from layerfs.sys.files import content

_MAP: Final = "/proc/self/uid_map"


def outside_id(uid: int) -> int:
    """Return a user id as the initial user namespace knows it, as far as we are told.

    Root of a namespace is not the host's root, and directories that all share must not be named as if it were.
    """
    for line in content(_MAP).splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def maps_every_id() -> bool:
    """Tell whether every user id is itself outside, as in the initial user namespace."""
    return [line.split() for line in content(_MAP).splitlines()] == [[b"0", b"0", b"4294967295"]]
