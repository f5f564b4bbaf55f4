"""What was used last, within a bound: a mapping that forgets the least recently used when its weight grows too much."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, at most `limit` in weight together; a value heavier than `limit` is kept alone.

    `weigh` gives a value's weight, 1 if there is none. Not for several threads at once.
    """

    __slots__ = ("_values", "_weigh", "limit", "weight")

    def __init__(self, limit: int, weigh: Callable[[V], int] | None = None) -> None:
        self.limit = limit
        self.weight = 0
        self._weigh = weigh or (lambda value: 1)
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
