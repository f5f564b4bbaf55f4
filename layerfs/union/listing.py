"""The merged listing of one directory, and the only methods that edit it.

A listing says for each visible name which layer holds it, which names of the lowers the upper hides, and where the
upper has whiteouts. It is loaded once (readdir.py). After that each change in the upper is told here, by the method
that is named for it. Nothing else writes to a listing, so a cache of answers need watch no other place.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Final

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


FIRST_COOKIE: Final = 3  # of a name: 1 and 2 are those of `.` and `..`
SPARE: Final = 1024  # names that are gone and may keep their places, beside as many as there are


class Order:
    """The cookie of each name of a directory: where a reader goes on that has seen it.

    A name keeps its cookie as long as the listing lives, also while it is gone and made again. So whoever remembers a
    cookie, a client or the kernel in a listing that it keeps, goes on at the right place, whatever was made or removed.

    Names with cookies above `end` were made after a client began to read: it would never come to an end if it renamed
    what it reads.
    """

    __slots__ = ("_cookies", "_gone", "_names", "end", "is_whole", "last")

    def __init__(self, names: Iterable[bytes]) -> None:
        self._names = list(names)
        self._cookies: array[int] | None = None  # None: the names have their places' numbers
        self._gone: set[bytes] = set()
        self.last = self.end = len(self._names) + FIRST_COOKIE - 1
        self.is_whole = True  # no name has gone, so that cookies follow from the order in which the names came

    def made(self, name: bytes) -> None:
        """Note a name that was not there."""
        if name in self._gone:
            self._gone.remove(name)
            return
        self.last += 1
        self._names.append(name)
        if self._cookies is not None:
            self._cookies.append(self.last)

    def removed(self, name: bytes) -> None:
        """Note that a name is gone."""
        self._gone.add(name)
        self.is_whole = False
        if len(self._gone) > len(self._names) // 2 + SPARE:
            kept = [(cookie, each) for cookie, each in self._since(0) if each not in self._gone]
            self._cookies = array("Q", [cookie for cookie, _ in kept])
            self._names = [each for _, each in kept]
            self._gone = set()

    def since(self, cookie: int, names: Container[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield the names that come after a cookie, each with its own; `names` are those that are there."""
        return ((own, name) for own, name in self._since(cookie) if name in names)

    def after(self, cookie: int, count: int) -> list[bytes]:
        """Return up to `count` names that come after a cookie; some may be gone."""
        return [name for _, name in islice(self._since(cookie), count)]

    def _since(self, cookie: int) -> Iterator[tuple[int, bytes]]:
        names, cookies = self._names, self._cookies
        if cookies is None:
            for index in range(max(cookie - FIRST_COOKIE + 1, 0), len(names)):  # no slice: all of it would be copied
                yield index + FIRST_COOKIE, names[index]
        else:
            for index in range(bisect_right(cookies, cookie), len(names)):
                yield cookies[index], names[index]


class Listing:
    """The names of one merged directory.

    `watch` is called before each change of a name; without a name when all of them are found elsewhere from now on.
    """

    __slots__ = ("_names", "_order", "_shadowed", "_whiteouts", "watch")

    def __init__(
        self,
        names: dict[bytes, Where],
        shadowed: set[bytes] | None = None,
        whiteouts: dict[bytes, Whiteout] | None = None,
    ) -> None:
        self._names = names
        self._order: Order | None = None
        self._shadowed = shadowed or set()
        self._whiteouts = whiteouts or {}
        self.watch: Callable[[bytes | None, Edit], None] | None = None

    @property
    def names(self) -> Mapping[bytes, Where]:
        """The visible names, in an order that stays, and where each is held."""
        return self._names

    def keep_order(self) -> Order:
        """Return the cookies of the names, which stay from now on. Until then they follow from the order of `names`."""
        if self._order is None:
            self._order = Order(self._names)
        return self._order

    def begin(self) -> None:
        """Note that somebody may begin to read the names here or elsewhere: whatever is there now is not left out."""
        if self._order is not None:
            self._order.end = self._order.last

    def since(self, cookie: int) -> Iterator[tuple[int, bytes]]:
        """Yield the names after a cookie, each with its own, for a client that reads; 0 begins anew.

        What is made after it began is left out; if others began later, only what was made after that.
        """
        order = self.keep_order()
        if cookie == 0:
            self.begin()
        for own, name in order.since(cookie, self._names):
            if own > order.end:
                return
            yield own, name

    @property
    def is_whole(self) -> bool:
        """Whether the names' cookies follow from the order of `names`."""
        return self._order is None or self._order.is_whole

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
        if self._order is not None and name not in self._names:
            self._order.made(name)
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
        if self._names.pop(name, None) is not None and self._order is not None:
            self._order.removed(name)
        if shadowed:
            self._shadowed.add(name)

    def whiteout_made(self, name: bytes, form: Whiteout) -> None:
        """Note a whiteout in the upper."""
        self._whiteouts[name] = form

    def cut_off(self, upper: Part) -> list[bytes]:
        """Note that the directory became opaque, all that it shows being in the upper.

        Returns the names whose whiteouts hide nothing any more, for `whiteout_dropped`.
        """
        if self.watch is not None:
            self.watch(None, Edit.COPIED_UP)
        for name, where in self._names.items():
            if isinstance(where, tuple):
                self._names[name] = (upper,)
        shadowed, self._shadowed = self._shadowed, set()
        return [name for name in self._whiteouts if name in shadowed and name not in self._names]

    def whiteout_dropped(self, name: bytes) -> bool:
        """Note that a whiteout that hides nothing goes; False if there is none any more."""
        return self._whiteouts.pop(name, None) is not None


def is_upper_only(where: Where | None) -> bool:
    """Tell whether the upper alone holds a name."""
    if isinstance(where, tuple):
        return len(where) == 1 and where[0].is_upper
    return where is not None and where.is_upper


def holder(where: Where) -> Part:
    """Return the topmost share of a directory that holds a name."""
    return where[0] if isinstance(where, tuple) else where
