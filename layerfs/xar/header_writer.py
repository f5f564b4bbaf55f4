"""The text before a XAR's squashfs image, written so that both reference readers accept it (see header.py)."""

from collections.abc import Sequence
from typing import Final

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.xar.header import GUARANTEED, LONGEST, MAGIC, PAGE, Header, parse_header

TAIL: Final = "echo This XAR file should not be executed by sh\nexit 1\n# Actual squashfs file begins at {offset}\n"


def make_header(
    *,
    uuid: str,
    version: str,
    target: str | None = None,
    dependencies: Sequence[str] = (),
    mount_root: str | None = None,
    trampolines: Sequence[str] = (),
) -> bytes:
    """Return a header, padded, that both reference readers accept; the image follows it.

    Only one that does not fit into 4096 bytes has 8192, which xarexec_fuse cannot read. The trampoline that must be
    among the names is added to them. Raises InvalidArgument for what a header cannot hold, or if it is too long.
    """
    names = tuple(dict.fromkeys((*trampolines, GUARANTEED))) if trampolines else ()
    wanted = Header(0, uuid, version, tuple(dict.fromkeys(dependencies)), target or None, mount_root, names)
    for offset in (PAGE, LONGEST):
        text = _written(wanted, offset)
        if len(text) <= offset:
            return _checked(text.ljust(offset, b"\n"), wanted)
    raise InvalidArgument(f"the header would have {len(text)} bytes of at most {LONGEST}", "name fewer dependencies")


def _written(header: Header, offset: int) -> bytes:
    lines = [header.shebang, f'OFFSET="{offset}"', f'UUID="{header.uuid}"', f'VERSION="{header.version}"']
    lines += [f'DEPENDENCIES="{" ".join(header.dependencies)}"', f'XAREXEC_TARGET="{header.target or ""}"']
    if header.mount_root is not None:
        lines.append(f'MOUNT_ROOT="{header.mount_root}"')
    if header.trampolines:
        lines.append("XAREXEC_TRAMPOLINE_NAMES=\"'{}'\"".format("' '".join(header.trampolines)))
    return "\n".join([*lines, "#xar_stop", TAIL.format(offset=offset)]).encode("utf-8", "surrogateescape")


def _checked(header: bytes, wanted: Header) -> bytes:
    """Return a header of ours that reads back as it was meant: so the rules stand in one place."""
    try:
        read = parse_header(header + MAGIC, b"the header to write")
    except Corrupt as error:
        raise InvalidArgument(error.message) from None
    for field in ("uuid", "version", "dependencies", "target", "mount_root", "trampolines", "extra"):
        if getattr(read, field) != getattr(wanted, field):
            raise InvalidArgument(f"a XAR's header cannot hold the {field} {getattr(wanted, field)!r}")
    return header
