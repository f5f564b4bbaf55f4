"""How one union behaves: what the option strings of a mount become."""

from enum import IntEnum

from layerfs.value import value


class OverrideStat(IntEnum):
    """Where ownership and mode are kept (`xattr_permissions=`): on the file, or in an xattr beside it."""

    OFF = 0
    PRIVILEGED = 1  # security.fuseoverlayfs.override_stat (root only)
    CONTAINERS = 2  # user.containers.override_stat


class RedirectDir(IntEnum):
    """How a merged directory is renamed (`redirect_dir=`)."""

    AUTO = 0  # by overlay.redirect where kernel overlayfs could read it back, else by copying
    ON = 1
    OFF = 2  # always by copying the tree
    NOFOLLOW = 3  # copy, and ignore the redirects that are found


@value
class IdRange:
    """`count` ids: `inside` is what the mount shows, `outside` what is on disk."""

    inside: int
    outside: int
    count: int


@value
class UnionOptions:
    """Everything about a union that is not where its layers are. Timeouts in seconds."""

    uid_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    squash_uid: int | None = None
    squash_gid: int | None = None
    override_stat: OverrideStat = OverrideStat.OFF
    static_nlink: bool = False
    acl: bool = True
    volatile: bool = False
    fsync: bool = True
    xino: bool = True
    redirect_dir: RedirectDir = RedirectDir.AUTO
    metacopy: bool = False  # read files of lowers that are only metadata, make some; an upper's are always read
    index: bool | None = None  # for kernel overlayfs; the union's own index of hard links is always there
    userxattr: bool = False  # marks are user.* xattrs, and redirects and metacopies count there; else trusted.* alone
    timeout: float = 86400.0
    writeback: bool = True
