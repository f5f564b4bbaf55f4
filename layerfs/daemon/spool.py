"""A long answer, written down at once and sent as its client takes it: in memory while it is short, else in a file.

So a client that reads slowly, or never, keeps nothing open in the ledger and costs next to no memory.
"""

import os
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

MEMORY: Final = 1 << 20  # bytes; a thousand snapshots take half of it
_LENGTH: Final = 4  # bytes before each message


def spooled(messages: Iterable[Any], directory: bytes) -> Iterator[bytes]:
    """Return messages in the form in which they are sent, all made by now; a file for them has no name in `directory`.

    Raises OSError: ENOSPC, EDQUOT.
    """
    file = SpooledTemporaryFile(MEMORY, dir=os.fsdecode(directory))
    try:
        for made in messages:
            data = made.SerializeToString()
            file.write(len(data).to_bytes(_LENGTH, "big"))
            file.write(data)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return _Pieces(file)


class _Pieces(Iterator[bytes]):
    """Iterates over the messages in a file, and closes it at the end, or when the iterator is given up."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __next__(self) -> bytes:
        head = b"" if self._file.closed else self._file.read(_LENGTH)
        if not head:
            self._file.close()
            raise StopIteration
        return self._file.read(int.from_bytes(head, "big"))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    __del__ = close
