"""SQLite's errors in our words: OSError where one means an errno, Corrupt for a damaged ledger."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from layerfs.errors import FULL, Corrupt, LayerfsError
from layerfs.sys.space import full

_VAGUE: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_ERRNOS: Final = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextmanager
def explained(path: bytes) -> Iterator[None]:
    """Raise OSError or LayerfsError for SQLite's errors about the ledger at `path`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explain(error, path) from error


def _explain(error: sqlite3.DatabaseError, path: bytes) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"the ledger {os.fsdecode(path)} is damaged: {error}", "put back a copy of it")
    if primary in _ERRNOS:
        # What a full filesystem keeps SQLite from is "disk I/O error", or "unable to open database file".
        code = (primary in _VAGUE and full(os.path.dirname(path))) or _ERRNOS[primary]
        if code in FULL:
            return OSError(code, os.strerror(code), path)
        return OSError(code, f"the ledger cannot be used: {error}", path)
    if isinstance(error, sqlite3.OperationalError):
        return LayerfsError(f"the ledger {os.fsdecode(path)} cannot be used: {error}")
    return error
