"""POSIX ACLs as the xattrs hold them (linux/posix_acl_xattr.h): a version, then entries of tag, permissions and id."""

import struct
from collections.abc import Iterator
from typing import Final

ACCESS_ACL: Final = "system.posix_acl_access"
DEFAULT_ACL: Final = "system.posix_acl_default"
ACLS: Final = (ACCESS_ACL, DEFAULT_ACL)

_VERSION: Final = 2
_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_GROUP_OBJ: Final = 0x04
_MASK: Final = 0x10


def without_acl(mode: int, acl: bytes) -> int:
    """Return the mode of a file whose access ACL cannot be kept: it permits nobody more than the ACL did.

    With an ACL the group bits are its mask, which may allow more than the owning group has. Named users and groups
    lose what the ACL gave them. A malformed ACL leaves its group nothing.
    """
    permissions = dict(_entries(acl))
    group = permissions.get(_GROUP_OBJ, 0) & permissions.get(_MASK, 0o7)
    return mode & ~0o070 | (group & 0o7) << 3


def _entries(acl: bytes) -> Iterator[tuple[int, int]]:
    """Yield tag and permissions of each entry; nothing if the value is malformed."""
    if len(acl) < _HEAD.size or _HEAD.unpack_from(acl)[0] != _VERSION or (len(acl) - _HEAD.size) % _ENTRY.size:
        return
    for tag, permissions, _ in _ENTRY.iter_unpack(acl[_HEAD.size :]):
        yield tag, permissions
