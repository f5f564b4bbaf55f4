"""How many descriptors this process may hold."""

import resource


def raise_open_files() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
