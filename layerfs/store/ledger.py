"""The ledger of a store: one SQLite file that says which snapshots and records there are.

Write-ahead logging: readers never wait, and see the ledger as it was when they began. Writers take turns, those of one
process in the order in which they came, those of several by a lock of the kernel's; SQLite's own way of waiting is to
sleep and try again, which lets the unlucky starve. A writer's transaction is over in a tenth of a millisecond, because
it is written and not synced: what must be on disk calls `sync`, which syncs the log for all that were before it.

A process that is killed leaves a transaction that never was. After a power cut the ledger is as it was at some moment
at or after the last `sync`. Moving the log into the file needs syncs, which all who make directories feel, so a thread
of its own does that in a pause, and who closes the ledger leaves a short log where it is.

On a full filesystem snapshots can still be removed, which makes room: what a log takes was kept when the ledger was
opened, a change for which that is too short moves the log and begins it anew, and a spare file is cut for what SQLite
makes at each start (the index of the log, in memory that is mapped: without room the kernel would kill who uses it).

SQLite moves and removes the log when the last connection closes, which it finds out by POSIX locks. These are lost as
soon as a process closes any descriptor of the file (fcntl_locking(2)), and not known after fork(2). So each open ledger
has a lock of its own on the same bytes, which belongs to an open file: who closes is never the last one for SQLite.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, Final, TypeVar

from layerfs.errors import FULL, LayerfsError, Unsupported
from layerfs.store.schema import APPLICATION, MIGRATIONS
from layerfs.store.sqlite_errors import explained
from layerfs.store.turns import AdvisoryTurns, Turns
from layerfs.sys.locks import share_bytes
from layerfs.sys.space import full, keep_room, make_in_place

T = TypeVar("T")
NAME: Final = b"ledger.db"
LOCK: Final = b"ledger.lock"
LOG: Final = b"-wal"
INDEX: Final = b"-shm"
SPARE: Final = b"ledger.spare"
PATIENCE: Final = 60.0  # s for a lock that SQLite itself wants; only recovery after a crash takes one for long
FULL_LOG: Final = 256  # transactions of this process from which on their log is moved into the file, in a pause
PAUSE: Final = 0.05  # s without a transaction
LONGEST_LOG: Final = 2048  # transactions after which no pause is waited for: 50 MiB or less, which is read in 0.1 s
ROOM: Final = 4 << 20  # bytes of the log that are kept for it
AHEAD: Final = 1 << 20  # bytes, at least, by which the file can grow
INDEXED: Final = 128 << 10  # bytes of the log's index that are kept for it: enough for the longest log
SPARED: Final = 256 << 10  # bytes of the spare file
LONG_LOG: Final = 1 << 20  # bytes from which on who closes the ledger moves it; who opens it reads that much, in 2 ms
_SHARED: Final = (0x40000002, 510)  # the bytes that all who use the file share, and who is alone locks (os_unix.c)
MOST_IDS: Final = 64  # numbers that a process takes at once; what it does not use is lost


class Transaction:
    """One connection within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute one statement."""
        return self._connection.execute(statement, values)

    def many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Execute one statement for each row."""
        if rows:
            self._connection.executemany(statement, rows)

    def one(self, statement: str, *values: Any) -> Any:
        """Return the first row, or None."""
        return self.run(statement, *values).fetchone()

    def all(self, statement: str, *values: Any) -> list[Any]:
        """Return all rows."""
        return self.run(statement, *values).fetchall()


class Ledger:
    """An open ledger; any thread may use it. Raises LayerfsError and OSError for what SQLite says."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._path = os.path.join(root, NAME)
        self.steps = AdvisoryTurns()  # for whole steps of several threads, which are quicker one after the other
        self._turns = Turns()
        self._idle: list[sqlite3.Connection] = []
        self._ids: list[int] = []
        self._take = 1
        self._written = 0  # transactions since the log was moved into the file
        self._mover: threading.Thread | None = None
        self._closing = threading.Event()
        with ExitStack() as opened:
            self._lock = _open_file(os.path.join(root, LOCK))
            opened.callback(os.close, self._lock)
            for name in (b"", LOG, INDEX):
                make_in_place(self._path + name)
            self._file = _open_file(self._path)
            opened.callback(os.close, self._file)
            with explained(self._path), _spare_room(root):
                self._writer = self._open()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close it; nobody may be using it any more."""
        self._closing.set()
        if self._mover:
            self._mover.join()
        if self._log_size() > LONG_LOG:
            self._move_log()
            with self._turns, self._turn_of_process():
                self._move_log()  # what others have written meanwhile
                self._cut_log()
        for connection in (*self._idle, self._writer):
            connection.close()
        self._idle.clear()
        self._opened.close()

    def change(self, act: Callable[[Transaction], T]) -> T:
        """Return what a function returns that is called within a transaction that alone may write.

        An exception rolls the transaction back. The function is called once more where the filesystem was full.
        """
        try:
            with self.write() as transaction:
                return act(transaction)
        except OSError as error:
            if error.errno not in FULL:
                raise
        self._move_log()
        with self.write() as transaction:
            return act(transaction)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Begin a transaction that alone may write, and commit it at the end; an exception rolls it back."""
        with self._turns, self._transaction() as transaction:
            yield transaction
        self._look_at_log()

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with explained(self._path), self._turn_of_process():
            transaction = Transaction(self._writer)
            transaction.run("BEGIN IMMEDIATE")
            try:
                yield transaction
                transaction.run("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Begin a transaction that sees the ledger as it is now, until the end."""
        with explained(self._path):
            connection = self._reader()
            try:
                connection.execute("BEGIN")
                yield Transaction(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._idle.append(connection)

    @contextmanager
    def look(self) -> Iterator[Transaction]:
        """Lend a connection to read by, each statement of which sees the ledger as it is then.

        For one question, or for what is asked again in a transaction: it takes half the time of `read`.
        """
        with explained(self._path):
            connection = self._reader()
            try:
                yield Transaction(connection)
            finally:
                self._idle.append(connection)

    def sync(self) -> None:
        """Return when all that was committed by now outlasts a power cut."""
        with suppress(FileNotFoundError):  # nothing was written yet
            _sync(self._path + LOG, os.O_RDWR)
        _sync(self._root, os.O_RDONLY | os.O_DIRECTORY)

    def take_id(self) -> int:
        """Return a number that no snapshot of this store ever had."""
        with suppress(IndexError):
            return self._ids.pop()
        with self.write() as transaction:
            (first,) = transaction.one("SELECT value FROM facts WHERE name = 'next'")
            transaction.run("UPDATE facts SET value = ? WHERE name = 'next'", first + self._take)
        self._ids.extend(range(first + self._take - 1, first, -1))
        self._take = min(2 * self._take, MOST_IDS)
        return int(first)

    @contextmanager
    def _turn_of_process(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _reader(self) -> sqlite3.Connection:
        with suppress(IndexError):
            return self._idle.pop()
        return self._connect()

    def _connect(self, patience: float = PATIENCE) -> sqlite3.Connection:
        path = "file:" + _quoted(self._path) + "?mode=rw"
        connection = sqlite3.connect(
            path, timeout=patience, isolation_level=None, check_same_thread=False, cached_statements=256, uri=True
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        except BaseException:  # a file that is no database is found out here
            connection.close()
            raise
        return connection

    def _open(self) -> sqlite3.Connection:
        """Return the writer's connection to a ledger of this layerfs's tables, made or brought forward if need be."""
        connection = self._connect()
        try:
            if _version(connection) != len(MIGRATIONS):
                with self._turn_of_process():
                    _migrate(connection)
            share_bytes(self._file, *_SHARED)
            _keep_room(self._path + LOG, ROOM)
            _keep_room(self._path + INDEX, INDEXED)
            keep_room(self._file, (os.fstat(self._file).st_size // AHEAD + 2) * AHEAD)
        except BaseException:
            connection.close()
            raise
        return connection

    def _look_at_log(self) -> None:
        """Have the log moved into the file where it has grown long, by a thread that keeps nobody waiting."""
        self._written += 1
        if self._written < FULL_LOG or (self._mover and self._mover.is_alive()):
            return
        self._mover = threading.Thread(target=self._move_in_a_pause, daemon=True)
        self._mover.start()

    def _move_in_a_pause(self) -> None:
        seen = 0
        while seen != self._written < LONGEST_LOG and not self._closing.is_set():
            seen = self._written
            self._closing.wait(PAUSE)
        self._written = 0
        self._move_log()

    def _move_log(self) -> None:
        """Move the log into the file, and sync that before the log can be written from its beginning again.

        SQLite calls fdatasync(2), which without a journal does not bring the file's new size to the disk. As long as
        somebody reads by the log, nobody begins it anew. What keeps us from it is logged, and it is tried again later.
        """
        try:
            with self.read() as reader:
                reader.one("SELECT value FROM facts WHERE name = 'next'")
                with closing(self._connect()) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                os.fsync(self._file)
        except (OSError, LayerfsError) as error:
            import logging

            logging.getLogger(__name__).warning("the log of the ledger cannot be moved into it: %s", error)

    def _cut_log(self) -> None:
        """Cut a log whose content was moved into the file, unless somebody reads by it."""
        with suppress(sqlite3.Error), closing(self._connect(patience=0)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _log_size(self) -> int:
        try:
            return os.stat(self._path + LOG).st_size
        except FileNotFoundError:
            return 0


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise Unsupported(
            f"this store was made by a newer layerfs (its ledger has version {version}, this one knows "
            f"{len(MIGRATIONS)})",
            "use that one, or another --root",
        )
    return int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring a ledger forward, all steps in one transaction; somebody else may have done so meanwhile."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, statements in enumerate(MIGRATIONS[_version(connection) :], _version(connection) + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _quoted(path: bytes) -> str:
    """Return a path as a URI has it (RFC 3986; urllib takes longer to import than a transaction)."""
    plain = b"/._-~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in path)


def _open_file(path: bytes) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _sync(path: bytes, flags: int) -> None:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _spare_room(root: bytes) -> Iterator[None]:
    """Have some room on a full filesystem; the spare file takes it again afterwards, if it can."""
    fd = _open_file(os.path.join(root, SPARE))
    try:
        if full(root):
            os.ftruncate(fd, 0)
        yield
        keep_room(fd, SPARED)
    finally:
        os.close(fd)


def _keep_room(path: bytes, size: int) -> None:
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            keep_room(fd, size)
        finally:
            os.close(fd)
