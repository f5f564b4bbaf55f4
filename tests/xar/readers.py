"""The two reference readers in a few lines each, from what is written about the format; and XARs made byte by byte."""

from collections.abc import Callable

MAGIC = b"hsqs"
PLAIN = {
    "OFFSET": "4096",
    "UUID": "8f583eae",
    "VERSION": "1514764800",
    "DEPENDENCIES": "",
    "XAREXEC_TARGET": "bootstrap_xar.sh",
}
SHEBANG = "#!/usr/bin/env xarexec_fuse"
TAIL = (
    "#xar_stop", "echo This XAR file should not be executed by sh", "exit 1", "# Actual squashfs file begins at 4096",
)  # fmt: skip


class Refused(Exception):
    """A reference reader would not take this file."""


def lines_of(shebang: str = SHEBANG, tail: tuple[str, ...] = TAIL, **changes: str | None) -> list[str]:
    """A header's lines: the plain one's with other values, or without a key, or with further ones."""
    values = {key: value for key, value in (PLAIN | changes).items() if value is not None}
    return [shebang, *(f'{key}="{value}"' for key, value in values.items()), *tail]


def xar(lines: list[str], offset: int = 4096, image: bytes = MAGIC + bytes(92)) -> bytes:
    """A file: these lines, newlines up to `offset`, and what may pass for an image."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    return text.ljust(offset, b"\n") + image


def _pair(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not (name and equals and len(value) >= 2 and value[0] == value[-1] == '"'):
        raise Refused(line)
    return name, value[1:-1]


def xarexec(data: bytes) -> dict[str, str]:
    """Read as xarexec_fuse does: 4096 bytes, OFFSET exactly that, the last of duplicates; `#` lines are comments."""
    if len(data) < 4096:
        raise Refused("short")
    found = {}
    for line in data[:4096].decode("latin-1").split("\n"):
        if line == "#xar_stop":
            break
        if line and not line.startswith("#"):
            name, value = _pair(line)
            found[name] = value
    if found.get("OFFSET") != "4096" or not found.get("UUID") or found["UUID"].strip("0123456789abcdefABCDEF"):
        raise Refused(str(found))
    return found


def xarparser(data: bytes) -> dict[str, str]:
    """Read as XarParser does: OFFSET on line 2, multiples of 4096 up to 8192, no duplicates, no quotes in values."""
    lines = data[:8196].decode("latin-1").split("\n")
    if not lines[0].startswith(SHEBANG) or "#xar_stop" not in lines:
        raise Refused(lines[0])
    found: dict[str, str] = {}
    for line in lines[1 : lines.index("#xar_stop")]:
        name, value = _pair(line)
        if name in found or '"' in value or (not found and name != "OFFSET"):
            raise Refused(line)
        found[name] = value
    if not {"OFFSET", "UUID", "VERSION", "XAREXEC_TARGET"} <= set(found):
        raise Refused(str(found))
    names = found.get("XAREXEC_TRAMPOLINE_NAMES", "'invoke_xar_via_trampoline'")
    if "invoke_xar_via_trampoline" not in names[1:-1].split("' '"):
        raise Refused(names)
    offset = int(found["OFFSET"])
    if offset not in (4096, 8192) or data[offset : offset + 4] != MAGIC:
        raise Refused(found["OFFSET"])
    return found


READERS: dict[str, Callable[[bytes], dict[str, str]]] = {"xarexec_fuse": xarexec, "XarParser": xarparser}


def accepting(data: bytes) -> dict[str, dict[str, str]]:
    """What each reader that takes the file reads in it."""
    found = {}
    for name, read in READERS.items():
        try:
            found[name] = read(data)
        except (Refused, ValueError):
            continue
    return found
