"""State that only some files have: open data, further names, and where a file without a name is kept."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from layerfs.union import opened
from layerfs.union.layers import Part, Tree
from layerfs.union.opened import Handle

if TYPE_CHECKING:
    from layerfs.union.inodes import Directory

KeptAt = tuple[Part, bytes, Callable[[os.stat_result], bool]]
"""Where a file without a name is found: a directory, our name for it, and what tells it from another one there."""


class Opened:
    """The state of an open or many-named file: its data handle, who has it open, its further names."""

    __slots__ = (
        "aliases",
        "busy",
        "data",
        "incomplete",
        "kept_at",
        "linkable",
        "mtime_ns",
        "opens",
        "outsider",
        "pinned",
        "retired",
        "sxid",
        "unnamed_in",
        "writable",
        "written",
    )

    def __init__(self) -> None:
        self.data: Handle | None = None
        self.pinned: Handle | None = None  # keeps a file without a name, and without data open, alive
        self.writable = False
        self.opens = 0
        self.outsider = False  # somebody outside the group of this setgid file has it open for writing
        self.written = False  # somebody has it open for writing
        self.busy = 0  # threads that use the handle now
        self.retired: list[int] = []
        self.aliases: dict[tuple[Directory, bytes], None] = {}  # its names but the one in the node, in order
        self.mtime_ns: int | None = None  # what the kernel knows, while it caches writes
        self.incomplete = False  # the upper has the file, but not at each of its names
        self.kept_at: KeptAt | None = None  # where a file without a name is found (orphans.py)
        self.linkable = False  # was made without a name, and may get one
        self.unnamed_in: Tree | None = None  # the tree of a file that has no name any more
        self.sxid: bool | None = None  # setuid or setgid bits; None: not looked at

    @property
    def is_held(self) -> bool:
        """Whether some handle keeps the file alive."""
        return self.data is not None or self.pinned is not None

    @property
    def is_held_by_name(self) -> bool:
        """Whether a file without a name is kept by a name in the scratch directory."""
        return self.kept_at is not None

    def forget_kept(self) -> None:
        """Forget the name in the scratch directory by which an unlinked file was kept."""
        if self.kept_at is not None and self.kept_at[0].is_upper:
            with suppress(OSError):  # it is in the scratch directory, which the next mount empties
                os.unlink(self.kept_at[1], dir_fd=self.kept_at[0].fd)
        self.kept_at = None

    def retire(self) -> None:
        """Close the data handle, or later if a thread uses it. A reader of a file in an image holds the file itself."""
        if isinstance(self.data, int):
            if self.busy:
                self.retired.append(self.data)
            else:
                os.close(self.data)
        self.data = None

    def close_retired(self) -> None:
        """Close the handles that were set aside: no thread uses them any more."""
        for fd in self.retired:
            os.close(fd)
        self.retired = []

    def unpin(self) -> None:
        """Close the pinned handle: the file has a name again, or is gone."""
        if self.pinned is not None:
            opened.close(self.pinned)
            self.pinned = None
