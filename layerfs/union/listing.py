"""The merged listing of one directory, and the only methods that edit it.

A listing says for each visible name which layer holds it, which names of the lowers the upper hides, and where the
upper has whiteouts. It is loaded once (readdir.py). After that each change in the upper is told here, by the method
that is named for it. Nothing else writes to a listing, so a cache of answers need watch no other place.
"""

from collections.abc import Callable, Mapping
from enum import Enum

from layerfs.union.layers import Part

Where = Part | tuple[Part, ...]
"""Of a file: the share of the parent that holds it. Of a directory: those that may share in it, top first."""


class Whiteout(Enum):
    """What form a whiteout of the upper has."""

    AT_NAME = 0  # a device 0/0, or a marked empty file, at the name itself
    BESIDE = 1  # a file `.wh.NAME`


class Edit(Enum):
    """What happens to a name."""

    MADE = 0
    COPIED_UP = 1
    REMOVED = 2


class Listing:
    """The names of one merged directory.

    `watch` is called before each change of a name; without a name when all of them are found elsewhere from now on.
    """

    __slots__ = ("_names", "_shadowed", "_whiteouts", "watch")

    def __init__(
        self,
        names: dict[bytes, Where],
        shadowed: set[bytes] | None = None,
        whiteouts: dict[bytes, Whiteout] | None = None,
    ) -> None:
        self._names = names
        self._shadowed = shadowed or set()
        self._whiteouts = whiteouts or {}
        self.watch: Callable[[bytes | None, Edit], None] | None = None

    @property
    def names(self) -> Mapping[bytes, Where]:
        """The visible names, in an order that stays, and where each is held."""
        return self._names

    @property
    def whiteouts(self) -> Mapping[bytes, Whiteout]:
        """The names at which the upper has a whiteout."""
        return self._whiteouts

    def is_whiteout_at(self, name: bytes) -> bool:
        """Tell whether the upper's entry at a name is a whiteout, which a new object must replace."""
        return self._whiteouts.get(name) is Whiteout.AT_NAME

    def is_shadowed(self, name: bytes) -> bool:
        """Tell whether the upper hides something of the lowers at a name, visible or not."""
        return name in self._shadowed

    def must_be_opaque(self, name: bytes) -> bool:
        """Tell whether a new directory at a name must be opaque, since what the upper hides there would show in it."""
        return name in self._shadowed or name in self._whiteouts

    def needs_whiteout(self, name: bytes) -> bool:
        """Tell whether something of the lowers would appear if the upper had nothing at a visible name."""
        return name in self._shadowed or not is_upper_only(self._names.get(name))

    def made(self, name: bytes, upper: Part, *, is_dir: bool) -> Whiteout | None:
        """Note an object that is new at a name. Returns the whiteout that hid the name; one BESIDE it is yet to go."""
        if self.watch is not None:
            self.watch(name, Edit.MADE)
        self._names[name] = (upper,) if is_dir else upper
        return self._whiteouts.pop(name, None)

    def copied_up(self, name: bytes, where: Where) -> None:
        """Note that the upper has a copy of what the lowers have at a name."""
        if self.watch is not None:
            self.watch(name, Edit.COPIED_UP)
        self._names[name] = where
        self._shadowed.add(name)

    def removed(self, name: bytes, *, shadowed: bool) -> None:
        """Note that a name is gone; `shadowed` says that the lowers still have it."""
        if self.watch is not None:
            self.watch(name, Edit.REMOVED)
        self._names.pop(name, None)
        if shadowed:
            self._shadowed.add(name)

    def whiteout_made(self, name: bytes, form: Whiteout) -> None:
        """Note a whiteout in the upper."""
        self._whiteouts[name] = form

    def cut_off(self, upper: Part) -> list[bytes]:
        """Note that the directory became opaque, all that it shows being in the upper.

        Returns the names whose whiteouts hide nothing any more.
        """
        if self.watch is not None:
            self.watch(None, Edit.COPIED_UP)
        for name, where in self._names.items():
            if isinstance(where, tuple):
                self._names[name] = (upper,)
        hidden = self._shadowed - set(self._names)
        self._shadowed = set()
        return [name for name in hidden if self._whiteouts.pop(name, None) is not None]


def is_upper_only(where: Where | None) -> bool:
    """Tell whether the upper alone holds a name."""
    if isinstance(where, tuple):
        return len(where) == 1 and where[0].is_upper
    return where is not None and where.is_upper


def holder(where: Where) -> Part:
    """Return the topmost share of a directory that holds a name."""
    return where[0] if isinstance(where, tuple) else where
