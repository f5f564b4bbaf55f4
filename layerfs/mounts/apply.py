"""Mounting `Mount` values: the one place for drivers, snapshotters and clients that receive containerd's mounts.

fuse3.PROGRAM, fuse.PROGRAM   PROGRAM SOURCE TARGET -o OPTIONS is called, which is what mount.fuse3 does; ours is
                              found also where this Python's programs are
overlay                       the layers go to the kernel one by one where it takes them so: the options need not
                              fit into the page that mount(2) takes
overlay and bind, uidmap=,    the parents' owners are shifted, by idmapped mounts that are nowhere (containerd 2's
gidmap=                       words); the upper is not, since what is written there has its owners already
all others                    mount(2)
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from layerfs.errors import InvalidArgument, LayerfsError, NotFound, Unsupported
from layerfs.model import Mount, Stack
from layerfs.spec.idmaps import parse_runs
from layerfs.spec.overlay import OVERLAY, print_options, stack_of
from layerfs.sys import fsmount
from layerfs.sys.idmap import mapped_tree, namespace_of
from layerfs.sys.mounts import mount as mount_other
from layerfs.sys.mounts import parse_generic
from layerfs.sys.overlay import detached_path, mount_overlay

HELPED: Final = ("fuse3.", "fuse.")
_PREFIX: Final = "layerfs: "


@contextmanager
def mounted(mounts: tuple[Mount, ...], target: bytes | str | os.PathLike[str]) -> Iterator[None]:
    """Mount values at `target` while the context lasts; at its end wait until their servers are gone."""
    where = os.path.realpath(os.fsencode(target))
    mount_all(mounts, where)
    try:
        yield
    finally:
        for mount in reversed(mounts):
            release(_place(mount, where))


def release(path: bytes) -> None:
    """Unmount whatever is mounted at a path [absolute], and wait until its server is gone."""
    from layerfs.mounts import registry
    from layerfs.mounts.removal import tear_down
    from layerfs.sys.mounts import unmount

    if any(record.mountpoint == path for record in registry.records()):
        tear_down(path)
    else:
        unmount(path)


def mount_all(mounts: tuple[Mount, ...], target: bytes) -> None:
    """Mount values at `target`, in order: later ones on, or with a relative `target` of their own below, earlier ones.

    Raises OSError and LayerfsError of the mount that failed; those before it are unmounted again.
    """
    from layerfs.sys.mounts import unmount

    made: list[bytes] = []
    try:
        for mount in mounts:
            apply(mount, _place(mount, target))
            made.append(_place(mount, target))
    except BaseException:
        for place in reversed(made):
            unmount(place, lazy=True)
        raise


def _place(mount: Mount, target: bytes) -> bytes:
    return os.path.join(target, os.fsencode(mount.target)) if mount.target else target


def apply(mount: Mount, target: bytes) -> None:
    """Mount one value at `target`. Raises OSError, and LayerfsError for values that make no sense."""
    maps, mount = _take_maps(mount)
    if mount.type.startswith(HELPED):
        _call(mount, target)
    elif mount.type == OVERLAY:
        stack, words = stack_of(mount)
        flags, rest = parse_generic(words)
        with _shifted(stack.lowers, maps) as lowers:
            mount_overlay(Stack(lowers, stack.upper, stack.work), target, rest, flags)
    elif maps:
        _bind_shifted(mount, target, maps)
    else:
        mount_other(mount, target)


def _call(mount: Mount, target: bytes) -> None:
    """Have a program mount, as mount.fuse3 does."""
    import shutil  # with subprocess 15 ms, which mounts by the kernel need not pay
    import subprocess

    name = mount.type.partition(".")[2]
    beside = os.path.join(os.path.dirname(sys.executable), name)
    program = beside if os.access(beside, os.X_OK) else shutil.which(name)
    if program is None or os.path.basename(name) != name:
        raise NotFound(f"there is no program {name}, which mounts {mount.type}", "install it, or see PATH")
    command = [program, mount.source, os.fsdecode(target), "-o", print_options(mount)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        said = os.fsdecode(done.stderr).strip() or f"it ended with status {done.returncode}"
        raise LayerfsError(said.removeprefix(_PREFIX) if said.startswith(_PREFIX) else f"{name}: {said}")


def _take_maps(mount: Mount) -> tuple[dict[str, str], Mount]:
    """Return the maps that a kernel mount is to be shifted by, and the mount without them."""
    pairs = [option.partition("=") for option in mount.options]
    maps = {name: text for name, _, text in pairs if name in ("uidmap", "gidmap")}
    if not maps or mount.type.startswith(HELPED):
        return {}, mount
    if len(maps) < 2:
        raise InvalidArgument("a mount has one of uidmap and gidmap only", "give both")
    rest = tuple(option for option in mount.options if option.partition("=")[0] not in maps)
    return maps, Mount(mount.type, mount.source, rest, mount.target)


@contextmanager
def _shifted(lowers: tuple[bytes, ...], maps: dict[str, str]) -> Iterator[tuple[bytes, ...]]:
    """Yield layers with other owners, as long as the context lasts; what was mounted of them keeps them."""
    if not maps:
        yield lowers
        return
    with ExitStack() as held:
        namespace = _namespace(maps)
        held.callback(os.close, namespace)
        mounts = []
        for lower in lowers:
            mounts.append(_mapped(lower, namespace))
            held.callback(os.close, mounts[-1])
        yield tuple(map(detached_path, mounts))


def _bind_shifted(mount: Mount, target: bytes, maps: dict[str, str]) -> None:
    flags, rest = parse_generic(mount.options)
    if mount.type != "bind" or rest:
        raise InvalidArgument(f"a mount of type {mount.type} cannot be shifted", "only bind and overlay can")
    namespace = _namespace(maps)
    try:
        tree = _mapped(os.fsencode(mount.source), namespace)
    finally:
        os.close(namespace)
    try:
        fsmount.set_attributes(tree, flags)
        fsmount.attach(tree, target)
    finally:
        os.close(tree)


def _namespace(maps: dict[str, str]) -> int:
    return namespace_of(parse_runs(maps["uidmap"], "uidmap"), parse_runs(maps["gidmap"], "gidmap"))


def _mapped(path: bytes, namespace: int) -> int:
    try:
        return mapped_tree(path, namespace)
    except OSError as error:
        raise Unsupported(
            f"{os.fsdecode(path)} cannot be shown with other owners: {error.strerror}",
            "its filesystem or this kernel has no idmapped mounts; layerfs-mount maps ids itself (uidmapping=)",
        ) from error
