"""One share of a directory, to be opened and read: by itself, or by a front end that reads many at once."""

from collections.abc import Iterable
from typing import NamedTuple

from layerfs.union.layers import Kind, Tree
from layerfs.union.whiteout import PLAIN, DirMarks

Entries = Iterable[tuple[bytes, Kind]]
Outcome = tuple[int, DirMarks, Entries, OSError | None]  # of opening and reading: the handle, what was read, or why not


class Reading(NamedTuple):
    """What is to be read: a name in the open directory `at` of a tree, or without a name that directory itself.

    A failure is returned, so that what others have opened meanwhile is not lost.
    """

    tree: Tree
    at: int
    name: bytes
    scan: bool  # its names, too, not only its marks

    def __call__(self) -> Outcome:
        """Open and read."""
        try:
            handle = self.tree.open_dir(self.at, self.name) if self.name else self.at
        except OSError as error:
            return -1, PLAIN, (), error
        return self.go_on(handle)

    def go_on(self, handle: int, *, has_marks: bool = True, entries: Entries | None = None) -> Outcome:
        """Read what was opened elsewhere; `entries` are those that were read, were there no whiteouts among files.

        `has_marks` is False where it is known to have no extended attributes.
        """
        try:
            marks = self.tree.marks(handle) if has_marks else PLAIN
            if not self.scan:
                return handle, marks, (), None
            if entries is None or marks.xattr_whiteouts:
                entries = self.tree.scan(handle, xattr_whiteouts=marks.xattr_whiteouts)
            return handle, marks, entries, None
        except OSError as error:
            return handle, PLAIN, (), error
