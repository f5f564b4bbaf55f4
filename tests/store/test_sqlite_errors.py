"""What SQLite says, in our words."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, LayerfsError
from layerfs.store.sqlite_errors import explained


def said(code: int | None, kind: type[sqlite3.DatabaseError] = sqlite3.OperationalError) -> sqlite3.DatabaseError:
    error = kind("it says")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "number"),
    [(sqlite3.SQLITE_FULL, errno.ENOSPC), (sqlite3.SQLITE_READONLY, errno.EROFS), (sqlite3.SQLITE_BUSY, errno.EBUSY),
     (sqlite3.SQLITE_IOERR | 3 << 8, errno.EIO), (sqlite3.SQLITE_CANTOPEN, errno.ENOENT)],
)  # fmt: skip
def test_a_code_means_an_errno(code: int, number: int, scratch: Path) -> None:
    with pytest.raises(OSError) as raised, explained(os.fsencode(scratch / "db")):
        raise said(code)
    assert raised.value.errno == number


def test_a_damaged_ledger_is_corrupt_and_what_has_no_errno_is_told() -> None:
    with pytest.raises(Corrupt, match="damaged"), explained(b"/db"):
        raise said(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError)
    with pytest.raises(LayerfsError, match="cannot be used: it says"), explained(b"/db"):
        raise said(None)
