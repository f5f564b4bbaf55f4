"""Names in a tree of any depth, without the memory that their paths would take."""

SHOWN = 2000  # bytes of a path in a message; what nobody can type need not be read either


class Trail:
    """A name, and the directories above it, which all that is in them share.

    A path is put together when it is asked for. Kept as paths, names of 250 bytes in 6000 directories inside one
    another would take gigabytes.
    """

    __slots__ = ("above", "name")

    def __init__(self, above: "Trail | None", name: bytes) -> None:
        self.above = above
        self.name = name

    def names(self, most: int = -1) -> list[bytes]:
        """Return the names from the root down, or only the last ones: about `most` bytes of them."""
        found: list[bytes] = []
        step: Trail | None = self
        while step is not None and step.above is not None and most:
            found.append(step.name)
            most = max(most - len(step.name) - 1, 0) if most > 0 else most
            step = step.above
        if step is not None and step.above is not None:
            found.append(b"...")
        return found[::-1]

    @property
    def path(self) -> bytes:
        """The path from the root, whose own is empty."""
        return b"/".join(self.names())

    @property
    def shown(self) -> bytes:
        """The path as a message can have it: of a very long one the end."""
        return b"/".join(self.names(SHOWN))
