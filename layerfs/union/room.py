"""Room in the table of descriptors: what failed for want of one is tried again when some were closed."""

import errno
import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from layerfs.union.state import Overlay

P = ParamSpec("P")
T = TypeVar("T")


class HasOverlay(Protocol):
    """An object whose methods may run out of descriptors."""

    _ov: Overlay


H = TypeVar("H", bound=HasOverlay)


def with_room(method: Callable[Concatenate[H, P], T]) -> Callable[Concatenate[H, P], T]:
    """Try a method again when no descriptor was left, after closing what can be opened again."""

    def retrying(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._ov.make_room()
        return method(self, *args, **kwargs)

    functools.update_wrapper(retrying, method)
    return retrying
