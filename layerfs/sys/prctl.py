"""Attributes of this process, set by prctl(2)."""

from layerfs.sys.libc import call

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process a signal when its parent ends (PR_SET_PDEATHSIG)."""
    call("prctl", _PR_SET_PDEATHSIG, signal, 0, 0, 0)


def hide() -> None:
    """Keep other processes from looking at this one: its root, its descriptors, its memory (PR_SET_DUMPABLE).

    /proc/PID is then for those alone who may trace everything in the user namespace in which this program was started
    (ptrace(2), "Ptrace access mode checking"): not for root of a namespace below that.
    """
    call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def set_name(name: bytes) -> None:
    """Have `ps` show this thread's process under another name, of 15 bytes at most; a hidden one may not write it."""
    call("prctl", _PR_SET_NAME, name, 0, 0, 0)
