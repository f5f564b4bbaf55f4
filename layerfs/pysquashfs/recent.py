"""What was used last, within a bound: a mapping that forgets the least recently used when its weight grows too much."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, at most `limit` in weight together; a value heavier than `limit` is kept alone.

    `weigh` gives a value's weight, 1 if there is none. `let_go` is called with each value that is dropped or replaced.
    Not for several threads at once.
    """

    __slots__ = ("_let_go", "_values", "_weigh", "limit", "weight")

    def __init__(
        self, limit: int, weigh: Callable[[V], int] | None = None, let_go: Callable[[V], object] | None = None
    ) -> None:
        self.limit = limit
        self.weight = 0
        self._weigh = weigh or (lambda value: 1)
        self._let_go = let_go
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def get(self, key: K) -> V | None:
        """Return a value, which counts as a use; None if it is not here."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value, and forget the least recently used beyond the limit."""
        self.drop(key)
        self._values[key] = value
        self.weight += self._weigh(value)
        while self.weight > self.limit and len(self._values) > 1:
            self.drop(next(iter(self._values)))

    def drop(self, key: K) -> None:
        """Forget a value, if it is here."""
        value = self._values.pop(key, None)
        if value is not None:
            self.weight -= self._weigh(value)
            if self._let_go is not None:
                self._let_go(value)

    def drop_all(self) -> None:
        """Forget all values."""
        for key in list(self._values):
            self.drop(key)

    def take_all(self) -> list[V]:
        """Forget all values and return them: they are the caller's, and `let_go` is not called."""
        values = list(self._values.values())
        self._values.clear()
        self.weight = 0
        return values
