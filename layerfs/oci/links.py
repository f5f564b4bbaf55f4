"""The hard links of a layer, put off until all else is there: a link may come before its target, or before a newer one.

Chains of links lead straight to the file at their end.
"""

from collections.abc import Iterator

from layerfs.errors import Corrupt


class PendingLinks:
    """New names and the paths that they are to be links to; of several links for one name the last counts."""

    def __init__(self) -> None:
        self._targets: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._targets)

    def add(self, path: bytes, target: bytes) -> None:
        """Note a link; a link to itself is passed over."""
        if path != target:
            self._targets[path] = target

    def forget(self, path: bytes) -> None:
        """Forget the link at a path: something else is there now."""
        self._targets.pop(path, None)

    def groups(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield each file at the end of a chain with all its new names, in the order of the layer."""
        self._straighten()
        groups: dict[bytes, list[bytes]] = {}
        for path, target in self._targets.items():
            groups.setdefault(target, []).append(path)
        yield from groups.items()

    def _straighten(self) -> None:
        """Let each link lead to the end of its chain; every step is taken once, however long the chains."""
        targets = self._targets
        ends: set[bytes] = set()  # links that are straight
        for start in targets:
            way: list[bytes] = []
            seen: set[bytes] = set()
            at = start
            while at in targets and at not in ends:
                if at in seen:
                    raise Corrupt(f"the layer has hard links in a circle at {start!r}")
                seen.add(at)
                way.append(at)
                at = targets[at]
            end = targets[at] if at in ends else at
            for path in way:
                targets[path] = end
            ends.update(way)
