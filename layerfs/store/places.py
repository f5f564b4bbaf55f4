"""The directories of one driver's snapshots. Numbers name them, never keys.

    ROOT/making/ID.lock   held (flock) while the snapshot is made; it is there from the first step to the last
    ROOT/making/ID/       where it is made
    ROOT/again/ID/        where one is made again whose directory a power cut took
    ROOT/snapshots/ID/    where it is: put there by one rename, so what is there is whole
    ROOT/trash/ID/        what was removed, or was never finished

Which numbers are snapshots is for the ledger to say. All of this lies on one filesystem and is closed to others.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from layerfs.sys import dirs
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.sys.locks import held_alone, held_by_many, lock_file

MAKING: Final = b"making"
SNAPSHOTS: Final = b"snapshots"
TRASH: Final = b"trash"
AGAIN: Final = b"again"
SWEEP: Final = b"sweep.lock"  # held while the trash is emptied
SEAL: Final = b"seal.lock"  # shared by commits and by cleanup, exclusive for sealing what others left
_LOCK: Final = b".lock"


class Places:
    """The directories of one driver below `root`."""

    def __init__(self, root: bytes) -> None:
        self.root = root

    def make(self) -> None:
        """Make what is missing, closed to others."""
        for path in (self.root, *(os.path.join(self.root, name) for name in (MAKING, SNAPSHOTS, TRASH))):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)

    def place(self, number: int) -> bytes:
        """Return the directory of a snapshot."""
        return b"%s/%s/%d" % (self.root, SNAPSHOTS, number)

    def trashed(self, number: int) -> bytes:
        """Return the directory of what was a snapshot."""
        return b"%s/%s/%d" % (self.root, TRASH, number)

    def staged(self, number: int) -> bytes:
        """Return the directory in which a snapshot is made."""
        return b"%s/%s/%d" % (self.root, MAKING, number)

    def is_free(self, number: int) -> bool:
        """Tell whether no directory has a number."""
        return not any(map(os.path.lexists, (self.place(number), self.trashed(number), self.staged(number))))

    def again(self, number: int) -> bytes:
        """Return where the directory of a lost snapshot is made again; only its parent directory is there yet."""
        above = os.path.join(self.root, AGAIN)
        with suppress(FileExistsError):
            os.mkdir(above, 0o700)
        return b"%s/%d" % (above, number)

    @contextmanager
    def making(self, number: int) -> Iterator[bytes]:
        """Yield an empty directory for a snapshot to be made in; what an exception leaves is in the trash then."""
        lock = self._lock(number, wait=True)
        try:
            os.mkdir(self.staged(number), 0o700)
            try:
                yield self.staged(number)
            except BaseException:
                self.give_up(number)
                raise
            os.unlink(self.staged(number) + _LOCK)
        finally:
            os.close(lock)

    def publish(self, number: int) -> None:
        """Give a finished snapshot its place."""
        os.rename(self.staged(number), self.place(number))

    def set_aside(self, number: int) -> None:
        """Move a snapshot into the trash; one that is not there is fine."""
        with suppress(FileNotFoundError):
            os.rename(self.place(number), self.trashed(number))

    def restore(self, number: int) -> None:
        """Move a snapshot back from the trash; one that is not there is fine."""
        with suppress(FileNotFoundError):
            os.rename(self.trashed(number), self.place(number))

    def give_up(self, number: int) -> None:
        """Move what was being made into the trash, from wherever it is by now, and let go of its number."""
        self.set_aside(number)
        with suppress(FileNotFoundError):
            os.rename(self.staged(number), self.trashed(number))
        with suppress(FileNotFoundError):
            os.unlink(self.staged(number) + _LOCK)

    @contextmanager
    def abandoned(self) -> Iterator[list[int]]:
        """Yield the numbers of snapshots whose maker is gone; nobody else touches them during the block."""
        held: dict[int, int] = {}
        try:
            for number in self.making_now():
                with suppress(BlockingIOError):
                    held[number] = self._lock(number, wait=False)
            yield sorted(held)
        finally:
            for fd in held.values():
                os.close(fd)

    def making_now(self) -> set[int]:
        """Return the numbers that are being made, also of those whose directory has its place already."""
        names = os.listdir(os.path.join(self.root, MAKING))
        return {int(name.removesuffix(_LOCK)) for name in names if name.endswith(_LOCK)}

    def finished(self, number: int) -> None:
        """Let go of the number of a snapshot whose maker was killed after the last step that counts."""
        with suppress(FileNotFoundError):
            os.rename(self.staged(number), self.place(number))  # a power cut can keep the ledger and lose the rename
        with suppress(FileNotFoundError):
            os.unlink(self.staged(number) + _LOCK)

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Hold the lock for emptying the trash, which one process has at a time."""
        fd = lock_file(os.path.join(self.root, SWEEP))
        try:
            yield
        finally:
            os.close(fd)

    def working(self) -> AbstractContextManager[None]:
        """Share the lock of commits and discards, which keeps other processes from sealing what they work at."""
        return held_by_many(os.path.join(self.root, SEAL))

    def quiet(self) -> AbstractContextManager[bool]:
        """Tell whether no process commits or discards, and keep it so during the block."""
        return held_alone(os.path.join(self.root, SEAL))

    def trash(self) -> list[int]:
        """Return the numbers of what is in the trash."""
        return self._numbers(TRASH)

    def there(self) -> list[int]:
        """Return the numbers of the snapshots that have a directory."""
        return self._numbers(SNAPSHOTS)

    def erase(self, number: int) -> None:
        """Remove a directory of the trash with all that is in it, also what a container has made immutable."""
        try:
            dirs.remove(AT_FDCWD, self.trashed(number))
        except PermissionError:
            from layerfs.sys.scan import thaw_tree  # and ctypes, which is seldom needed

            thaw_tree(self.trashed(number))
            dirs.remove(AT_FDCWD, self.trashed(number))

    def _lock(self, number: int, *, wait: bool) -> int:
        path = self.staged(number) + _LOCK
        with suppress(IsADirectoryError):
            return lock_file(path, wait=wait)
        # After a power cut, on a filesystem without a journal, a name that was removed can stand for what was made
        # since in the inode that had it.
        dirs.remove(AT_FDCWD, path)
        return lock_file(path, wait=wait)

    def _numbers(self, name: bytes) -> list[int]:
        return sorted(int(entry) for entry in os.listdir(os.path.join(self.root, name)) if entry.isdigit())
