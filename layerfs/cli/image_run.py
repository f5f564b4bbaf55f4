"""`layerfs image run` and `mount`, and `layerfs run IMAGE -- COMMAND`."""

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from layerfs.cli.store_options import add_store_options, opened
from layerfs.errors import LayerfsError
from layerfs.model import Driver

if TYPE_CHECKING:
    from layerfs.oci.running import Changes
    from layerfs.snapshots.library import Store
    from layerfs.snapshots.snapshotter import Snapshotter

_OWNER = "layerfs.run"  # label of views that hold an image's layers for a process


def add_parser(parts: "argparse._SubParsersAction[argparse.ArgumentParser]", part: str) -> None:
    """Add one of the verbs."""
    if part == "mount":
        parser = parts.add_parser(
            "mount",
            help="mount an image, read-only",
            description="Mount an image read-only, as a view in the store; `layerfs image mount` at the same place "
            "replaces it, `layerfs umount` ends it.",
        )
        parser.add_argument("image", metavar="IMAGE")
        parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    else:
        parser = parts.add_parser(
            "run",
            help="run an image",
            description="Run a command in an image, as its config says: entrypoint, command, environment, directory, "
            "user. What it writes is gone at its end. Not a jail: the network is there as usual.",
        )
        parser.add_argument("image", metavar="IMAGE")
        parser.add_argument(
            "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="instead of the image's own"
        )
        parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
        parser.add_argument("-w", "--workdir", default="", metavar="DIR")
        parser.add_argument("-u", "--user", default="", metavar="USER[:GROUP]")
        parser.add_argument("--entrypoint", metavar="PROGRAM", help="instead of the image's own; empty for none")
        parser.add_argument("--insecure", action="store_true", help="pull by plain HTTP, if need be")
    add_store_options(parser, snapshotter=True)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    if arguments.part == "mount":
        return _mount(arguments)
    from layerfs.oci.running import Changes

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    changes = Changes(tuple(command), arguments.entrypoint, tuple(arguments.env), arguments.workdir, arguments.user)
    return _run(arguments, arguments.image, changes, Driver.AUTO)


def run_image(image: str, command: Sequence[str], *, driver: Driver) -> int:
    """Run a command in an image of the user's own store, pulled if need be."""
    from layerfs.oci.running import Changes

    arguments = argparse.Namespace(root=None, snapshotter="auto", insecure=False)
    return _run(arguments, image, Changes(tuple(command), ""), driver)


def _run(arguments: argparse.Namespace, text: str, changes: "Changes", driver: Driver) -> int:
    from layerfs.cli.stacking import find, unpacked
    from layerfs.model import Stack
    from layerfs.mounts.identity import Identity
    from layerfs.mounts.sandbox import Job
    from layerfs.mounts.sandbox import run as run_job
    from layerfs.mounts.scratch import scratch_directory
    from layerfs.oci.below import UnionBelow
    from layerfs.oci.images import Images
    from layerfs.oci.running import running

    with opened(arguments) as store:
        images = Images(store)
        image = find(images, text, insecure=arguments.insecure)
        snapshotter = store.snapshotter(arguments.snapshotter)
        chain = unpacked(images, image, snapshotter)
        config = images.load(image).image_config
        held = _hold(snapshotter, chain)
        lowers = snapshotter.stack(held).lowers
    try:
        with UnionBelow(lowers) as tree:
            found = running(config.run, tree, changes)
        environment = tuple(map(os.fsencode, found.environment))
        user = found.user
        identity = Identity(environment, os.fsencode(found.directory), user.uid, user.gid, user.groups)
        with scratch_directory() as scratch:
            command = tuple(map(os.fsencode, found.command))
            return run_job(Job(command, Stack(lowers), scratch, driver, chroot=True, identity=identity))
    finally:
        with opened(arguments) as store, suppress(LayerfsError):
            store.snapshotter(snapshotter.name).remove(held)


def _hold(snapshotter: "Snapshotter", chain: list[str]) -> str:
    """Make a view that keeps an image's layers while we use them; remove the views of processes that have ended."""
    for info in list(snapshotter.walk(f'labels."{_OWNER}"')):
        if not os.path.exists(f"/proc/{info.labels[_OWNER]}"):
            with suppress(LayerfsError):
                snapshotter.remove(info.name)
    from layerfs.snapshots.leftovers import LOCAL

    key = f"run {os.getpid()} {os.urandom(4).hex()}"
    snapshotter.view(key, chain[-1] if chain else "", {_OWNER: str(os.getpid()), LOCAL: "1"})
    return key


def _mount(arguments: argparse.Namespace) -> int:
    from layerfs.cli.stacking import find, unpacked
    from layerfs.mounts.apply import mount_all
    from layerfs.oci.images import Images
    from layerfs.snapshots.leftovers import LOCAL

    target = os.path.realpath(os.fsencode(arguments.mountpoint))
    with opened(arguments) as store:
        images = Images(store)
        snapshotter = store.snapshotter(arguments.snapshotter)
        chain = unpacked(images, find(images, arguments.image), snapshotter)
        key = f"mount {os.fsdecode(target)}"
        _forget(store, snapshotter, key, target)
        mounts = snapshotter.view(key, chain[-1] if chain else "", {LOCAL: "1"})
        try:
            mount_all(mounts, target)
        except BaseException:
            snapshotter.remove(key)
            raise
    return 0


def _forget(store: "Store", snapshotter: "Snapshotter", key: str, target: bytes) -> None:
    """Remove the view of an earlier mount at the same place, if that is gone."""
    if not os.path.ismount(target):
        with suppress(LayerfsError):
            snapshotter.remove(key)
