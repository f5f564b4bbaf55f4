"""A store opened: its snapshotters, its content, its records. This is what `layerfs.open_store` returns.

with layerfs.open_store("/var/lib/layerfs") as store:
    snapshots = store.snapshotter("overlay")
    for mount in snapshots.prepare("work", "base"):
        mount.perform(b"/mnt")

ROOT/ledger.db          what there is (layerfs.store.ledger)
ROOT/content/           blobs by digest (layerfs.store.content)
ROOT/drivers/NAME/      the snapshots of one driver (layerfs.store.places)
"""

import os
from contextlib import suppress
from functools import cached_property
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from layerfs.errors import FULL, InvalidArgument, LayerfsError, Unsupported
from layerfs.snapshots import registry
from layerfs.snapshots.driver import SnapshotDriver
from layerfs.snapshots.recovery import recover
from layerfs.snapshots.snapshotter import Snapshotter
from layerfs.store.ledger import Ledger
from layerfs.store.places import Places
from layerfs.store.records import Records
from layerfs.sys import trust
from layerfs.sys.namespaces import in_user_namespace

if TYPE_CHECKING:
    from layerfs.store.content import Content

AUTO: Final = "auto"
CONTENT: Final = b"content"
DRIVERS: Final = b"drivers"
VARIABLE: Final = b"LAYERFS_ROOT"
TREE: Final = b"LAYERFS_TREE"  # `layerfs run` sets both to the merged tree, which is no store


class Store:
    """An open store; a context manager. Threads share one, processes open one each."""

    def __init__(self, root: bytes) -> None:
        self.root = _make_root(root)
        self.ledger = Ledger(self.root)
        self.records = Records(self.ledger)
        self._guard = Lock()
        self._snapshotters: dict[str, Snapshotter] = {}

    @cached_property
    def content(self) -> "Content":
        """The blobs of the store."""
        from layerfs.store.content import Content  # 7 ms that a snapshot needs not

        return Content(os.path.join(self.root, CONTENT))

    def snapshotter(self, name: str = AUTO) -> Snapshotter:
        """Return the snapshotter of a driver; `auto` takes the best that this host can run.

        Interrupted steps in it are recovered first. Raises NotFound, Unsupported.
        """
        if name == AUTO:
            name = self._best()
        with self._guard:
            if name not in self._snapshotters:
                self._snapshotters[name] = self._open(name)
            return self._snapshotters[name]

    def drivers(self) -> dict[str, str]:
        """Return the names of all drivers, best first, and why this host cannot run one; empty if it can."""
        return {name: self._why_not(name) for name in registry.names()}

    def has(self, name: str) -> bool:
        """Tell whether a driver was ever used in this store."""
        return os.path.isdir(os.path.join(self.root, DRIVERS, os.fsencode(name)))

    def close(self) -> None:
        """Close the ledger; background work of drivers goes on."""
        for snapshotter in self._snapshotters.values():
            snapshotter.flush()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _best(self) -> str:
        reasons = []
        for name in registry.names():
            why = self._why_not(name)
            if not why:
                return name
            reasons.append(f"{name}: {why}")
        raise Unsupported(f"this host can run no snapshotter ({'; '.join(reasons)})", "`layerfs doctor` says more")

    def _why_not(self, name: str) -> str:
        if name in self._snapshotters:
            return ""
        try:
            places = self._places(name)
            places.make()
            _try(registry.load(name, places.root))
        except LayerfsError as error:
            return error.message
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _places(self, name: str) -> Places:
        return Places(os.path.join(self._directory(DRIVERS), os.fsencode(name)))

    def _directory(self, name: bytes) -> bytes:
        """Return a directory of the store, which is made if need be, closed to others."""
        path = os.path.join(self.root, name)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return path

    def _open(self, name: str) -> Snapshotter:
        places = self._places(name)
        driver = registry.load(name, places.root)
        places.make()
        _try(driver)
        snapshotter = Snapshotter(name, driver, self.ledger, places)
        recover(snapshotter)
        return snapshotter


def _try(driver: SnapshotDriver) -> None:
    """Raise Unsupported if this host cannot run a driver.

    A full filesystem says nothing about the driver: its snapshots can still be looked at and removed, and whoever makes
    a new one gets the error then.
    """
    try:
        driver.check()
    except OSError as error:
        if error.errno not in FULL:
            raise


def open_store(root: str | bytes | os.PathLike[str] | None = None) -> Store:
    """Open a store, and make it if it is not there; `root` is a directory (LAYERFS_ROOT, or this user's own).

    Raises InvalidArgument for a directory that others can change, Unsupported for a store of a newer layerfs.
    """
    return Store(default_root() if root is None else os.path.join(os.getcwdb(), os.fsencode(root)))


def default_root() -> bytes:
    """Return where this user's store is: LAYERFS_ROOT, root's /var/lib/layerfs, else $XDG_DATA_HOME/layerfs.

    A LAYERFS_ROOT that `layerfs run` set is passed over: it names the merged tree.
    """
    chosen = os.environb.get(VARIABLE)
    if chosen and chosen != os.environb.get(TREE):
        return os.path.join(os.getcwdb(), chosen)
    if os.geteuid() == 0 and not in_user_namespace():
        return b"/var/lib/layerfs"
    base = os.environb.get(b"XDG_DATA_HOME", b"")
    if not base.startswith(b"/"):  # relative ones are to be ignored (XDG Base Directory Specification)
        home = os.path.expanduser(b"~")
        if not home.startswith(b"/"):
            raise InvalidArgument("this user has no home, and so no store", "set LAYERFS_ROOT or give --root DIR")
        base = os.path.join(home, b".local/share")
    return os.path.join(base, b"layerfs")


def _make_root(root: bytes) -> bytes:
    """Make the store's directory, closed to others, and return its path without symlinks."""
    try:
        found = trust.walk(root, make=0o700)
    except trust.Untrusted as error:
        said = f"no store can be at {os.fsdecode(root)}: {os.fsdecode(error.filename)} {error.strerror}"
        raise InvalidArgument(said, "give another --root") from None
    try:
        path = b"/proc/self/fd/%d" % found.fd
        if not os.listdir(path):  # ours from now on
            os.chmod(path, 0o700)
    except OSError as error:
        said = f"the store {os.fsdecode(root)} cannot be opened: {error.strerror}"
        raise OSError(error.errno, said) from error
    finally:
        os.close(found.fd)
    return found.path
