"""The differences from kernel overlayfs that are no bug of layerfs, in one table, each with its reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.oracle.operations import Operation
from tests.oracle.trees import Kind, Layer

Answer = tuple[str, Any]


@dataclass(frozen=True)
class Difference:
    """Where kernel and layerfs may answer differently."""

    where: str
    reason: str
    excuses: Callable[[Operation, Answer, Answer], bool] | None = None  # None: the harness never compares it


def _is_absent_acl(operation: Operation, kernel: Answer, subject: Answer) -> bool:
    return (
        operation[0] == "removexattr"
        and operation[2].startswith("system.posix_acl")
        and (kernel, subject) == (("error", "ENODATA"), ("ok", None))
    )


def _is_unlinked(operation: Operation, kernel: Answer, subject: Answer) -> bool:
    if operation[0] != "fstat" or kernel[0] != "ok" or subject[0] != "ok":
        return False
    return bool(subject[1][3] == 0 and (*kernel[1][:3], 0, *kernel[1][4:]) == subject[1])


def breaks_links(lowers: Sequence[Layer]) -> bool:
    """Whether kernel overlayfs has no index for these layers as images, and so breaks their hard links."""
    return len(lowers) > 1 and any(node.kind is Kind.HARDLINK for layer in lowers for node in layer.values())


def changes_acl(operation: Operation) -> bool:
    """Whether an operation sets or removes an ACL, which the kernel's squashfs has none of."""
    return operation[0] in ("setxattr", "removexattr") and bool(operation[2].startswith("system.posix_acl"))


def _is_squashfs_name(operation: Operation, kernel: Answer, subject: Answer) -> bool:
    paths = [word for word in operation[1:] if isinstance(word, bytes)]
    too_long = any(len(name) == 256 for path in paths for name in path.split(b"/"))
    return too_long and (kernel, subject) == (("error", "ENOENT"), ("error", "ENAMETOOLONG"))


def _is_fewer_links(operation: Operation, kernel: Answer, subject: Answer) -> bool:
    if operation[0] not in ("stat", "fstat") or kernel[0] != "ok" or subject[0] != "ok":
        return False
    links = kernel[1][3], subject[1][3]
    others = kernel[1][:3], kernel[1][4:], subject[1][:3], subject[1][4:]
    return bool(None not in links and links[0] > links[1] > 0 and others[:2] == others[2:])


CIRCULAR = "cannot be read: ENOMEM"
TABLE = (
    Difference("a symlink to itself below a directory", "fuse-overlayfs 1.10 follows what a lower layer has where a "
               "higher one has a directory, and says ENOMEM when that ends nowhere."),
    Difference("links that a layer hides", "A name of a lower hard link that a higher layer hides still counts for "
               "the kernel once the file is copied up (index=on); layerfs counts the names that can be seen.",
               _is_fewer_links),
    Difference("absent names of 256 bytes", "The kernel's squashfs allows them, and so an overlay of it does; to "
               "layerfs they are too long unless an image has them.", _is_squashfs_name),
    Difference("ACLs for what is in an image only", "Kernel overlayfs refuses them (ENOTSUP), since squashfs has none; "
               "layerfs copies up and changes them. The campaign draws none with images."),
    Difference("st_ino and st_dev", "Kernel overlayfs changes st_ino at copy-up across filesystems and st_dev per "
               "layer; layerfs promises constant numbers, which world.py checks by themselves."),
    Difference("nlink and size of directories", "Kernel overlayfs shows 1 for merged directories and the upper "
               "filesystem's size; both are allowed by POSIX."),
    Difference("st_blocks, atime, ctime", "Depend on the filesystem, on relatime and on the clock."),
    Difference("EXDEV of directory renames without redirect_dir", "The kernel asks the caller to copy (overlayfs.rst, "
               "`renaming directories`); layerfs copies by itself. The kernel's side then copies as mv would "
               "(operations._rename_by_hand)."),
    Difference("lower hard links with index=off", "The kernel breaks them at copy-up (overlayfs.rst, `index`); "
               "compared under index=on only, and no upper is then read crosswise because the other names are in "
               "each one's own index, not in its upper."),
    Difference("hard links in one of several images", "squashfs has no UUID, and without one the kernel's index knows "
               "files of one lower filesystem only; the campaign has no such worlds with images."),
    Difference("removal of an absent ACL", "Kernel overlayfs says ENODATA for what is still in a lower and succeeds in "
               "the upper; native filesystems always succeed, and so does layerfs.", _is_absent_acl),
    Difference("nlink of an open unlinked lower file", "Kernel overlayfs goes on to show the lower's (index=off); it "
               "has no name any more, so layerfs shows 0.", _is_unlinked),
    Difference("truncate(2) to the same size", "The kernel's FUSE client leaves mtime alone when it has the writeback "
               "cache (fs/fuse/dir.c, fuse_do_setattr); the server is not asked. The operation avoids it."),
    Difference("chown(-1, -1) of a setuid file", "Clears the bits on native filesystems; the kernel's FUSE client does "
               "not even ask the server (fs/fuse/dir.c, fuse_setattr). The strategies never draw it."),
    Difference("mtime of directories after a refused rename", "Kernel overlayfs sometimes moves the mtime of the old "
               "parent although the rename ends with ENOTEMPTY."),
    Difference("fuse-overlayfs under load", "Version 1.10 answers a spurious ENOENT now and then when memory is short "
               "or caches are dropped; what it reads is asked of it twice."),
    Difference("links that fuse-overlayfs has not met", "Version 1.10 shows of a file with two names one link until it "
               "has listed both their directories; so it reads a tree before that counts."),
)  # fmt: skip


def is_excused(operation: Operation, kernel: Answer, subject: Answer) -> bool:
    """Whether the table allows these two answers to differ."""
    return any(known.excuses(operation, kernel, subject) for known in TABLE if known.excuses)
