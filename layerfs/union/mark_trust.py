"""Which marks are trusted. A redirect or metacopy can show what its author may not read.

Kernel overlayfs follows them in trusted.* alone, which only root sets, and in user.* only for whoever mounted with
`userxattr` (overlayfs.rst, "user xattr").
"""

import os
import stat
from typing import Final

from layerfs.sys.namespaces import trusted_xattrs
from layerfs.union.options import RedirectDir, UnionOptions
from layerfs.union.shown import Attributes
from layerfs.union.whiteout import OVERLAYS, TRUSTED, USER
from layerfs.value import value


@value
class MarkTrust:
    """The xattr prefixes, and the owner, whose redirects and metacopies are trusted.

    The owner of a file, and everybody who may write to it, can set user.* on it. trusted.* is root's alone.
    """

    prefixes: tuple[str, ...] = OVERLAYS
    owner: int | None = None  # the mark counts only on objects that nobody but this user may write to

    def covers(self, st: Attributes) -> bool:
        """Tell whether a mark on an object counts."""
        return self.owner is None or (st.st_uid == self.owner and not st.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


ALL: Final = MarkTrust()


def mark_trust_of(options: UnionOptions) -> MarkTrust:
    """Return which redirects and metacopies are trusted: root's (trusted.*) as in the kernel, or user.* if asked for.

    A mount of an unprivileged user trusts user.* on that user's own files, since its own redirects are there.
    """
    if options.userxattr:
        return MarkTrust((USER,))
    if trusted_xattrs():
        return MarkTrust((TRUSTED,))
    if options.redirect_dir is RedirectDir.ON:
        return MarkTrust((USER,))
    return MarkTrust((USER,), os.geteuid()) if os.geteuid() else MarkTrust(())
