"""A command in a mount of its own: private namespaces, the stack mounted in them, and nothing left afterwards.

    caller -- in a new user namespace where it is not root, outside the mount namespace: waits, passes signals on
      +-- init -- pid 1 of a new pid namespace, in a new mount namespace: mounts, waits, reaps
            +-- FUSE server -- where the kernel refuses overlayfs, or images; in a mount namespace of its own
            +-- COMMAND, or where the tree is made the root:
            +-- second init -- pid 1 of one more pid namespace, in which nobody sees the server or the first init
                  +-- COMMAND

When init ends the kernel ends every process below it, and with them the mounts. Not a jail: as root it is root.
"""

import errno
import os
import signal
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from layerfs.errors import LayerfsError, Unsupported
from layerfs.lowers.kinds import opener
from layerfs.model import Driver, Stack
from layerfs.mounts.identity import Identity
from layerfs.mounts.images import kernel_stack
from layerfs.mounts.kernel import mount_validated, words_for
from layerfs.mounts.preflight import see_no_overlay
from layerfs.mounts.process import ServerHooks
from layerfs.mounts.starter import Ready, spell, start_forked
from layerfs.sys import child, fsmount
from layerfs.sys.descriptors import STDIO, close_all_but
from layerfs.sys.mounts import make_private, unmount
from layerfs.sys.namespaces import Namespace, enter_user_namespace, unshare
from layerfs.sys.prctl import die_with_parent, hide
from layerfs.sys.process_id import pass_on_own_process
from layerfs.sys.rootfs import Root, show_own_processes
from layerfs.sys.sync import sync_filesystem
from layerfs.sys.terminal import one_line
from layerfs.union.claim import claim, release
from layerfs.union.options import UnionOptions
from layerfs.union.validate import validate

if TYPE_CHECKING:
    from layerfs.fuse.config import ServeConfig
    from layerfs.union.union import Union

_SETUP_FAILED = 1
_Mask = set[signal.Signals | int]


@dataclass(frozen=True, slots=True)
class Job:
    """What to run on which stack. `scratch` is an empty directory to mount at; `chroot` makes the tree the root.

    identity: who the command is there; None is who we are, in our environment.
    """

    command: tuple[bytes, ...]
    stack: Stack
    scratch: bytes
    driver: Driver = Driver.AUTO
    chroot: bool = False
    identity: Identity | None = None


def run(job: Job) -> int:
    """Run a command on its stack and return its exit status as a shell does.

    Leaves this process in new user and pid namespaces: call it once, in a process of one thread.
    Raises LayerfsError if the host does not permit the namespaces or the mount.
    """
    mask = child.hold_signals()
    pass_on_own_process()
    _enter()
    told, tell = os.pipe()
    alive, living = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        os.close(living)
        _Init(job, mask, tell).live(alive)
    os.close(tell)
    os.close(alive)
    status = child.wait_forwarding(pid)
    os.close(living)
    with open(told, "rb") as pipe:
        complaint = pipe.read()
    if complaint:
        message, _, hint = os.fsdecode(complaint).partition("\0")
        raise LayerfsError(message, hint)
    return status


def _enter() -> None:
    """Enter a new pid namespace, through a new user namespace if that takes one."""
    try:
        unshare(Namespace.PID)
        return
    except PermissionError:
        pass
    try:
        enter_user_namespace()
        unshare(Namespace.PID)
    except OSError as error:
        raise Unsupported(
            f"this host does not let you make user namespaces: {error.strerror}",
            "`layerfs mount LAYER... MOUNTPOINT` works with FUSE instead; `layerfs doctor` says what root can change",
        ) from error


class _Init:
    """Pid 1 of the command's namespace."""

    def __init__(self, job: Job, mask: _Mask, tell: int) -> None:
        self._job = job
        self._mask = mask
        self._tell = tell
        self._server: int | None = None
        self._claimed: int | None = None

    def live(self, alive: int) -> NoReturn:
        """Set up, run the command, clear away, and exit with its status; never returns."""
        status = _SETUP_FAILED
        try:
            die_with_parent(signal.SIGKILL)
            hide()
            if not _has_ended(alive):
                status = self._run()
        except OSError as error:
            os.write(self._tell, b"cannot give the command its tree: " + spell(error))
        except Exception as error:  # nobody above us would hear of it
            os.write(self._tell, spell(error))
        finally:
            os._exit(status)

    def _run(self) -> int:
        tree = self._mount()
        try:
            if self._job.chroot:
                return self._run_inside(tree)
            show_own_processes()
            os.chdir(tree)
            return child.wait_forwarding(self._start(tree))
        finally:
            self._clear_away()

    def _run_inside(self, tree: bytes) -> int:
        """Have a second init make the tree the root and run the command; what leads out of it is not seen there."""
        unshare(Namespace.PID)
        pid = os.fork()
        if pid == 0:
            self._be_second_init(tree)
        status = child.wait_forwarding(pid)
        os.chdir("/")  # which it made the root for all of this mount namespace
        return status

    def _be_second_init(self, tree: bytes) -> NoReturn:
        status = _SETUP_FAILED
        try:
            die_with_parent(signal.SIGKILL)
            hide()
            root = Root()
            root.enter(tree)
            close_all_but((*STDIO, self._tell))
            try:
                status = child.wait_forwarding(self._start(b"/"))
            finally:
                root.leave()
        except OSError as error:
            os.write(self._tell, b"cannot give the command its tree: " + spell(error))
        except Exception as error:
            os.write(self._tell, spell(error))
        finally:
            os._exit(status)

    def _start(self, tree: bytes) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            variables = environment(tree, dict(os.environb))
            if self._job.identity is not None:
                variables = self._job.identity.variables()
                self._job.identity.assume()
            child.execute(self._job.command, variables, self._mask)
        except LayerfsError as error:
            os.write(2, os.fsencode(f"layerfs: {error}\n"))
        except OSError as error:
            name = os.fsdecode(self._job.command[0])
            os.write(2, os.fsencode(f"layerfs: cannot run {one_line(name)}: {child.reason(error)}\n"))
            os._exit(child.status_of(error))
        finally:
            os._exit(child.CANNOT_RUN)

    def _mount(self) -> bytes:
        """Mount the stack in a mount namespace of our own and return where."""
        scratch = self._job.scratch
        enter_mounts(scratch)
        tree = scratch + b"/tree"
        os.mkdir(tree)
        validate(self._job.stack, None)
        stack = with_upper(self._job.stack, scratch)
        if self._job.driver is Driver.FUSE or not self._mount_kernel(stack, tree):
            self._server = serve_private(stack, tree, self._mask)
        return tree

    def _mount_kernel(self, stack: Stack, tree: bytes) -> bool:
        """Mount with kernel overlayfs; tell whether it accepted, or raise if only it was asked for."""
        try:
            with kernel_stack(stack, tree, self._hooks()) as found:
                mount_validated(found.stack, words_for(stack, UnionOptions()), tree)
            self._claim(stack)
        except Unsupported:
            if self._job.driver is Driver.KERNEL:
                raise
            return False
        return True

    def _claim(self, stack: Stack) -> None:
        """Note on an upper that is not our own that it is in use: nobody outside sees the kernel's mount of it."""
        if self._job.stack.upper is not None and stack.upper is not None:
            self._claimed = os.open(stack.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            claim(self._claimed)

    def _hooks(self) -> ServerHooks:
        """Return what a server of images does beside serving: it ends with the overlay, at the latest with us."""

        def begin() -> None:
            from layerfs.sys.logform import to_stderr

            hide()
            to_stderr("layerfs: %(message)s")
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

        return ServerHooks(begin, end=lambda: None)

    def _clear_away(self) -> None:
        """Leave nothing of ours in the upper, and let a FUSE server finish: the kernel would kill it with us."""
        if self._claimed is not None:
            release(self._claimed)
        if self._server:
            sync_filesystem(b".")
            try:
                os.kill(self._server, signal.SIGTERM)
                os.waitpid(self._server, 0)
            except (ProcessLookupError, ChildProcessError):
                return  # ended before, and was reaped


def enter_mounts(scratch: bytes) -> None:
    """Enter a private mount namespace and mount memory at `scratch`; Unsupported if the namespace has no rights."""
    try:
        unshare(Namespace.MOUNT)
        _make_all_private()
        fsmount.mount_new(b"tmpfs", scratch, ("mode=0755",))
    except PermissionError as error:
        raise Unsupported(
            "this host lets you make user namespaces, but not mount in them",
            "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0; `layerfs mount` works with FUSE instead",
        ) from error


def _make_all_private() -> None:
    """Stop mounts from propagating to or from other mount namespaces."""
    try:
        make_private(b"/", recursive=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Unsupported(
            "the root of this process is no mount, as after chroot(8), so mounts here cannot be made private",
            "enter the tree with systemd-nspawn, bwrap or pivot_root(8) in place of chroot; or use `layerfs mount`",
        ) from error


def _has_ended(alive: int) -> bool:
    """Tell whether our parent ended before the kernel knew that we are to follow it."""
    os.set_blocking(alive, False)
    try:
        return os.read(alive, 1) == b""
    except BlockingIOError:
        return False


def with_upper(stack: Stack, scratch: bytes) -> Stack:
    """Return a stack that can be written to: with an upper in `scratch` [a tmpfs] where it has none of its own."""
    if stack.upper is not None:
        return stack
    upper, work = scratch + b"/upper", scratch + b"/work"
    os.mkdir(upper)
    os.mkdir(work)
    # The merged root looks as its top layer does, which is now this one.
    with closing(opener(stack)(stack.lowers[0], 1)) as top:
        os.chmod(upper, top.stat_dir(top.root()).st_mode & 0o7777)
    return Stack(stack.lowers, upper, work, stack.offset)


def serve_private(stack: Stack, tree: bytes, mask: _Mask) -> int:
    """Mount a stack with FUSE at `tree`, start a process that serves it, and return its pid. Raises LayerfsError."""
    from layerfs.fuse.config import ServeConfig
    from layerfs.fuse.mount import attach
    from layerfs.spec.attach import AttachOptions
    from layerfs.union.union import Union

    see_no_overlay(stack)
    union = Union.open(stack, UnionOptions(), tree, opener(stack))
    with ExitStack() as undo:
        undo.callback(union.close)
        device = attach(tree, AttachOptions())
        config = ServeConfig(tree)
        try:
            pid = start_forked(lambda ready: _serve(device, union, config, ready, mask), "the FUSE server")
        finally:
            os.close(device)  # a copy of ours would let whoever asks a dead server wait for ever
        undo.pop_all()
    union.close(served_elsewhere=True)
    return pid


def _serve(device: int, union: "Union", config: "ServeConfig", ready: Ready, mask: _Mask) -> None:
    """Be the server's process.

    It stays where its libraries are: in a mount namespace of its own, or making the tree the root would make it ours
    too, and importing from the mount that waits for us would wait forever. Nobody may look at it, since its root is
    the host's.
    """
    os.setsid()  # ^C is for the command
    hide()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    unshare(Namespace.MOUNT)
    unmount(config.mountpoint, lazy=True)
    ready()
    os.umask(0)
    from layerfs.fuse.serve import serve
    from layerfs.sys.logform import to_stderr

    to_stderr("layerfs: %(message)s")
    serve(device, union, config)


def environment(tree: bytes, given: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the command's environment: LAYERFS_ROOT is the tree, and LAYERFS_TREE, by which a store knows that.

    Where the tree is the root, PATH gets the usual directories at its end (a user's PATH has no sbin, which dpkg
    wants), HOME is root's, and what names directories of the host is left out.
    """
    found = given | {b"LAYERFS_ROOT": tree, b"LAYERFS_TREE": tree}
    if tree != b"/":
        return found
    path = [part for part in given.get(b"PATH", b"").split(b":") if part]
    path += [part for part in child.DEFAULT_PATH.split(b":") if part not in path]
    left_out = (b"TMPDIR", b"XDG_RUNTIME_DIR", b"OLDPWD")
    kept = {name: value for name, value in found.items() if name not in left_out}
    return kept | {b"PATH": b":".join(path), b"HOME": b"/root", b"PWD": b"/"}
