"""layerfs: one directory tree made of stacked read-only layers with a writable layer on top.

The rooms, from the edge inwards; ARCHITECTURE.md says why.

    cli       one verb per file
    daemon    snapshots served to containerd by gRPC
    xarexec   one mount of a XAR for all callers of a user
    mounts    one stack at one mountpoint: which driver, the registry of what is mounted
    oci       images: layer tars in and out, layouts, registries
    plan      which modules share a layer
    fuse      pyfuse3 and trio: requests in, answers out
    snapshots  the drivers' contract and the lifecycle of snapshots
    spec      what is to be mounted, as values: options parsed and printed
    lowers    what may be a layer; squashfs images as lowers of the union
    store     the ledger, snapshot directories, content by digest
    xar       XAR packages: header, building, checking
    union     overlay semantics; synchronous, no FUSE
    sys       the only room with raw system calls
    lane      FUSE requests answered natively, from tables
    batch     plain entries of a tar written many at a call
    pysquashfs   squashfs images read by C of ours, written with libsquashfs
    model, errors
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerfs.snapshots.facade import AsyncSnapshotter as AsyncSnapshotter
    from layerfs.snapshots.library import Store as Store
    from layerfs.snapshots.library import open_store as open_store
    from layerfs.snapshots.snapshotter import Snapshotter as Snapshotter

__version__ = "0.1.0"

# What a program that embeds layerfs needs (docs/library.md), and where it is; no start of ours pays for it.
_LIBRARY = {
    "open_store": "layerfs.snapshots.library",
    "Store": "layerfs.snapshots.library",
    "Snapshotter": "layerfs.snapshots.snapshotter",
    "AsyncSnapshotter": "layerfs.snapshots.facade",
    "mounted": "layerfs.mounts.apply",
}


def __getattr__(name: str) -> Any:
    """Import what a library's user asks for."""
    if name in _LIBRARY:
        from importlib import import_module

        return getattr(import_module(_LIBRARY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
