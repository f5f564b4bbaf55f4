"""From a request to a mount that is served: choose the driver, validate, mount, fork, hand over.

    launch --+-- kernel: mount, record, return
             +-- FUSE: Union.open (every refusal comes from here), attach, fork --+-- parent: waits for a byte, returns
                                                                                  +-- server (`layerfs.mounts.process`)

The mount stands before anything heavy is imported: until it is served the kernel queues what is asked.
"""

import os
from contextlib import ExitStack

from layerfs.errors import Unsupported
from layerfs.fuse.mount import attach
from layerfs.model import Driver
from layerfs.mounts import registry
from layerfs.mounts.asking import asker
from layerfs.mounts.preflight import look_ahead, see_no_overlay, see_that_it_answers
from layerfs.mounts.process import Process, Server, endings_held, hooks_of, log_of, open_descriptors, open_log
from layerfs.mounts.starter import start
from layerfs.spec.options import MountRequest, generic_words
from layerfs.sys.mounts import MountFlag, Real
from layerfs.sys.terminal import warn
from layerfs.value import replace


def launch(request: MountRequest, process: Process, device: int | None = None, kept: tuple[int, ...] = ()) -> None:
    """Mount a stack and return when a process of its own serves it; with `foreground`, when it was unmounted.

    A `device` that is given is mounted at the mountpoint already, and only served; it is ours from now on. The server
    keeps none of the caller's descriptors; those in `kept` are not the caller's. Raises LayerfsError or OSError with
    nothing left mounted.
    """
    inherited = [fd for fd in open_descriptors() if fd not in (device, asker()) and fd not in kept]
    if device is not None:
        parent, name = os.path.split(os.path.abspath(request.mountpoint))  # nobody answers there yet
        request = replace(request, mountpoint=Real(os.path.join(os.path.realpath(parent), name)))
        _mount_fuse(request, "its device was given to be served", process, inherited, device)
        return
    see_that_it_answers(request.mountpoint)
    request = replace(request, mountpoint=Real(os.path.realpath(request.mountpoint)))
    look_ahead(request, clear_dead=process.foreground)
    driver, why = _choose(request)
    if driver is Driver.KERNEL:
        try:
            if process.foreground:
                from layerfs.mounts.foreground import mount_and_stay

                mount_and_stay(request.mountpoint, lambda: _mount_kernel(request, why, process, inherited))
                registry.prune()
            else:
                _mount_kernel(request, why, process, inherited)
            return
        except Unsupported as refusal:
            # What images the kernel takes shows when it takes them; directories were tried before.
            if request.driver is Driver.KERNEL or not _has_images(request):
                raise
            why = refusal.message
    _mount_fuse(request, why, process, inherited)


def _choose(request: MountRequest) -> tuple[Driver, str]:
    """Return the driver and why; `mounts.choice` is imported only if no driver was asked for."""
    if request.driver is not Driver.AUTO:
        return request.driver, request.asked or f"driver={request.driver.value} was asked for"
    from layerfs.mounts.choice import choose

    return choose(request.driver, request.stack, request.union)


def _has_images(request: MountRequest) -> bool:
    from layerfs.lowers.kinds import is_image  # trees, which a kernel mount of directories never needs

    return any(map(is_image, request.stack.lowers))


def _mount_kernel(request: MountRequest, why: str, process: Process, inherited: list[int]) -> None:
    """Mount with kernel overlayfs and record it."""
    from layerfs.mounts.kernel import explain, mount_kernel, mount_validated, words_for

    if not _has_images(request):
        mount_kernel(request.stack, request.union, request.mountpoint, request.attach.flags)
        _record(request, why)
        return
    from layerfs.mounts.images import kernel_stack
    from layerfs.union.validate import validate

    validate(request.stack, request.mountpoint)  # overlayfs itself would hide a layer behind its own mount
    # Where nothing is written a server below the kernel's overlay is worth less than one alone (measured).
    alone = request.driver is Driver.AUTO and request.stack.upper is None
    hooks = None if alone else hooks_of(process, inherited)
    words = words_for(request.stack, request.union)
    try:
        with kernel_stack(request.stack, request.mountpoint, hooks) as found:
            mount_validated(found.stack, words, request.mountpoint, request.attach.flags)
    except PermissionError as error:
        raise explain(error, request.stack) from error
    _record(request, f"{why}; {found.how}", found.server, log_of(process, found.server) if found.server else None)


def _record(request: MountRequest, why: str, server: int = 0, log: bytes | None = None) -> None:
    """Have a kernel mount in the registry."""
    words = ",".join(generic_words(request.attach.flags))
    record = registry.new_record(request.mountpoint, Driver.KERNEL, why, request.stack, words, server)
    record = replace(record, log=log)
    try:
        registry.prune_if_need_be()
        registry.save(record)
    except OSError as error:
        warn(f"`layerfs status` will not know this mount: {error}")


def _mount_fuse(
    request: MountRequest, why: str, process: Process, inherited: list[int], device: int | None = None
) -> None:
    """Mount FUSE, unless `device` is mounted already, and have it served, here or in a process of its own."""
    from layerfs.lowers.kinds import opener
    from layerfs.union.union import Union

    if request.attach.flags & MountFlag.STRICTATIME:  # the kernel's FUSE client never notes a read (S_NOATIME)
        raise Unsupported(
            "strictatime cannot be kept by FUSE: files here change no atime when they are read", "use driver=kernel"
        )
    see_no_overlay(request.stack)
    with endings_held(for_good=process.foreground), ExitStack() as undo:
        log = None if process.log is None else open_log(process.log)
        if log is not None:
            undo.callback(os.close, log)
        covered = request.mountpoint if device is None else None
        union = Union.open(request.stack, request.union, covered, opener(request.stack))
        opened = undo.enter_context(ExitStack())
        opened.callback(union.close)
        mounted = attach(request.mountpoint, request.attach) if device is None else device
        server = Server(request, why, union, mounted)
        opened.pop_all()
        undo.callback(server.unmount)
        if process.foreground:
            server.run(process, log)
        else:
            start(lambda ready: server.run_apart(process, log, inherited, ready), "the server")
            server.let_go()
            undo.pop_all()
