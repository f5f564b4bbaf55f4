"""layerfs: one directory tree made of stacked read-only layers with a writable layer on top.

The rooms, from the edge inwards; ARCHITECTURE.md says why.

    cli       one verb per file
    daemon    snapshots served to containerd by gRPC
    xarexec   one mount of a XAR for all callers of a user
    mounts    one stack at one mountpoint: which driver, the registry of what is mounted
    oci       images: layer tars in and out, layouts, registries
    fuse      pyfuse3 and trio: requests in, answers out
    snapshots  the drivers' contract and the lifecycle of snapshots
    spec      what is to be mounted, as values: options parsed and printed
    lowers    what may be a layer; squashfs images as lowers of the union
    store     the ledger, snapshot directories, content by digest
    xar       XAR packages: header, building, checking
    union     overlay semantics; synchronous, no FUSE
    sys       the only room with raw system calls
    pysquashfs   squashfs images read and written; a binding of libsquashfs
    model, errors
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerfs.snapshots.library import Snapshotter as Snapshotter
    from layerfs.snapshots.library import Store as Store
    from layerfs.snapshots.library import open_store as open_store

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what a library's user asks for, which no start of a program pays for."""
    if name in ("open_store", "Store", "Snapshotter"):
        from importlib import import_module

        return getattr(import_module("layerfs.snapshots.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
