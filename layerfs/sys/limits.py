"""How many descriptors this process may hold, and how much memory it keeps."""

import resource

from layerfs.sys import libc


def raise_open_files() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def trim_memory() -> None:
    """Give free memory of the C heap back to the system (malloc_trim(3))."""
    libc.call("malloc_trim", 0)
