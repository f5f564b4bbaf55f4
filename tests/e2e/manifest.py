"""Everything that can be seen of a tree, as JSON: run by whoever may look (root may not see another's FUSE mount)."""

import errno
import hashlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
HIDDEN = ("security.selinux",)


def describe(path: str, first_names: dict[tuple[int, int], str], name: str) -> Facts:
    status = os.lstat(path)
    directory = stat.S_ISDIR(status.st_mode)
    facts: Facts = {
        "mode": oct(status.st_mode),
        "owner": f"{status.st_uid}:{status.st_gid}",
        "mtime": status.st_mtime_ns,
        "xattrs": xattrs(path),
    }
    if not directory:
        facts["nlink"] = status.st_nlink
        facts["same as"] = first_names.setdefault((status.st_dev, status.st_ino), name)
    if stat.S_ISREG(status.st_mode):
        facts["size"] = status.st_size
        facts["sparse"] = status.st_blocks * 512 < status.st_size
        facts["sha256"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(path)
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        facts["device"] = status.st_rdev
    return facts


def xattrs(path: str) -> dict[str, str]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the kernel's answer for a squashfs image in which nothing has any
            raise
        return {}
    return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names if name not in HIDDEN}


def manifest(root: str) -> dict[str, Facts]:
    """Describe every path below and including `root`, in name order so that hard links get one first name."""
    first_names: dict[tuple[int, int], str] = {}
    facts = {".": describe(root, first_names, ".")}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            facts[relative] = describe(path, first_names, relative)
    return facts


if __name__ == "__main__":
    json.dump(manifest(sys.argv[1]), sys.stdout)
