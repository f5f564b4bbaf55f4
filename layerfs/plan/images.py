"""A layer of a plan as a squashfs image, bare or in a XAR: the same contents give the same bytes.

The VERSION of such a XAR is the first half of its contents' digest as a decimal number: so a package cache knows a
layer again before it is built.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from layerfs.errors import FULL, Unsupported
from layerfs.oci.tar import HARD_LINK, Member
from layerfs.oci.write import Item
from layerfs.plan.contents import LayerContents
from layerfs.pysquashfs import FileSpec, SquashfsError, WriteOptions, write_image
from layerfs.pysquashfs.filespec import XATTR_PREFIXES
from layerfs.pysquashfs.target import replacing
from layerfs.union.acl import ACCESS_ACL, without_acl
from layerfs.xar.builder import BLOCK_SIZE, MODE, digest_from
from layerfs.xar.header_writer import make_header

_DIGITS: Final = 32  # of the digest that VERSION has, hexadecimal
_RULES: Final = 2  # by which entries are written; another number for others, so that older layers are built anew
_UUID: Final = "00000000"  # until the image's digest is known

Dropped = Callable[[bytes, bytes], None]  # path, name of the xattr


@dataclass(frozen=True, slots=True)
class ImageForm:
    """How images are written. `xar`: with a header; `depends`: what it names; level: zstd's, None for its default."""

    xar: bool
    depends: tuple[str, ...] = ()
    level: int | None = None

    @property
    def recipe(self) -> bytes:
        """Everything here that the bytes depend on."""
        return repr((_RULES, self.xar, self.depends, self.level, BLOCK_SIZE)).encode()


def version_of(digest: str) -> str:
    """Return the VERSION of a layer whose contents have a digest."""
    return str(int(digest[:_DIGITS], 16))


def write_layer(path: bytes, contents: LayerContents, form: ImageForm, digest: str, dropped: Dropped) -> None:
    """Write a layer to a file, on disk when this returns; `digest` is that of the contents.

    `dropped` is told of xattrs that squashfs cannot hold. Raises NotReady, Unsupported, OSError.
    """

    def header(uuid: str) -> bytes:
        return make_header(uuid=uuid, version=version_of(digest), dependencies=form.depends) if form.xar else b""

    offset = len(header(_UUID))
    try:
        with replacing(path) as fd:
            write_image(fd, _entries(contents.items(), dropped), _options(form.level), offset=offset)
            os.pwrite(fd, header(digest_from(fd, offset)[:8]), 0)
            os.fchmod(fd, MODE if form.xar else 0o644)
    except SquashfsError as error:
        if error.errno in FULL:
            raise
        raise Unsupported(f"a squashfs image cannot hold the layer: {error}", "pack it with --format oci") from None


def _options(level: int | None) -> WriteOptions:
    return WriteOptions(
        level=level, block_size=BLOCK_SIZE, compress_inodes=False, compress_xattrs=False, xattr_table=True
    )


def _entries(items: Iterator[Item], dropped: Dropped) -> Iterator[FileSpec]:
    for item in items:
        member = item.member
        if member.kind == HARD_LINK:
            yield FileSpec(member.path, link=member.target)
            continue
        device = member.kind in (stat.S_IFCHR, stat.S_IFBLK)
        yield FileSpec(
            member.path,
            member.kind | _mode(member),
            member.uid,
            member.gid,
            member.mtime_ns // 10**9,
            data=item.data() if item.data is not None else b"",  # type: ignore[arg-type]
            target=member.target,
            rdev=os.makedev(member.major, member.minor) if device else 0,
            xattrs={name: value for name, value in member.xattrs.items() if _fits(member.path, name, dropped)},
        )


def _mode(member: Member) -> int:
    """Return the mode to store. Where squashfs drops an ACL, the mode permits nobody more than the ACL did."""
    acl = member.xattrs.get(os.fsencode(ACCESS_ACL))
    return member.mode if acl is None else without_acl(member.mode, acl)


def _fits(path: bytes, name: bytes, dropped: Dropped) -> bool:
    if name.startswith(XATTR_PREFIXES):
        return True
    dropped(path, name)
    return False


def names_of(ids: Sequence[int], prefix: str, suffix: str) -> list[str]:
    """Return the file names of layers, bottom first: those of a plan that follows another one stay the same.

    The topmost one, by which people find the others, has no number.
    """
    return [*(f"{prefix}-{layer}{suffix}" for layer in ids[:-1]), prefix + suffix]
