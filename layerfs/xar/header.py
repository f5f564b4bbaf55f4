"""The text before a XAR's squashfs image, read strictly. It is written by header_writer.py.

    #!/usr/bin/env xarexec_fuse            XarParser wants these very words; xarexec_fuse takes any comment
    OFFSET="4096"                          xarexec_fuse: 4096 exactly, on any line; XarParser: 4096 or 8192, on line 2
    UUID="8f583eae"                        8 hex digits, both
    VERSION="1514764800"                   a decimal number; XarParser wants it, xarexec_fuse does without
    DEPENDENCIES="b.xar c.xar"             base names, divided by spaces; neither looks at them
    XAREXEC_TARGET="bin/app"               relative; XarParser wants the line (its value may be empty)
    MOUNT_ROOT="/mnt/xarfuse"              may be absent; an absolute path
    XAREXEC_TRAMPOLINE_NAMES="'a' 'b'"     may be absent; XarParser wants one name to be invoke_xar_via_trampoline
    #xar_stop                              here the header ends; then text for sh, then newlines up to OFFSET

xarexec_fuse skips empty lines and comments before #xar_stop and takes the last of duplicate keys; XarParser refuses
these. Here a file is readable if one of the two accepts all of it: `Header.remarks` says what the other one refuses.
It is corrupt where its meaning would be a matter of opinion: duplicate keys with different values, a quote inside a
value, no #xar_stop. Beyond both readers, what would harm whoever acts on it is refused: control characters, a target or
dependency that leads elsewhere, padding that hides bytes. Unknown keys are kept in `Header.extra` and mean nothing.

Reading costs one pread(2) and imports nothing: it lies on the way of every mount.
"""

import os
from enum import Enum
from typing import Final, NamedTuple, NoReturn

from layerfs.errors import Corrupt
from layerfs.value import value

PAGE: Final = 4096  # bytes; OFFSET is a multiple of it
LONGEST: Final = 2 * PAGE  # bytes; no reference reader takes a longer header
MAGIC: Final = b"hsqs"  # squashfs 4, little-endian
SHEBANG: Final = "#!/usr/bin/env xarexec_fuse"
GUARANTEED: Final = "invoke_xar_via_trampoline"  # the trampoline that XarParser expects among the names
STOP: Final = b"\n#xar_stop\n"
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_CLIP: Final = 60  # characters of what was found that a message shows


class Dialect(Enum):
    """The two reference readers, by their names."""

    XAREXEC = "xarexec_fuse"
    PARSER = "XarParser"


class Remark(NamedTuple):
    """What only one reader accepts: the line (from 1), who refuses it, and why."""

    line: int
    refuser: Dialect
    said: str


@value
class Header:
    """What a XAR says of itself; `offset` [bytes] is where its image begins, `version` is "" where none is given."""

    offset: int
    uuid: str
    version: str
    dependencies: tuple[str, ...] = ()
    target: str | None = None
    mount_root: str | None = None
    trampolines: tuple[str, ...] = ()
    shebang: str = SHEBANG
    extra: tuple[tuple[str, str], ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The reference readers that accept this header."""
        refusers = {remark.refuser for remark in self.remarks}
        return tuple(dialect for dialect in Dialect if dialect not in refusers)


def read_header(fd: int, name: bytes) -> Header:
    """Return the header of an open XAR; `name` is for messages.

    Raises Corrupt, which says on which line what was expected and what was found.
    """
    return parse_header(os.pread(fd, LONGEST + len(MAGIC), 0), name)


def parse_header(data: bytes, name: bytes) -> Header:
    """Return the header in a file's first LONGEST + 4 bytes; Corrupt as `read_header`."""
    return _Reader(data, name).read()


class _Reader:
    """One header being read."""

    def __init__(self, data: bytes, name: bytes) -> None:
        self.data = data
        self.name = name
        self.values: dict[str, str] = {}
        self.lines: dict[str, int] = {}  # key -> line
        self.remarks: list[Remark] = []

    def fail(self, line: int, expected: str, found: str) -> NoReturn:
        shown = found if len(found) <= _CLIP else f"{found[:_CLIP]}..."
        raise Corrupt(f"{os.fsdecode(self.name)}: line {line}: expected {expected}, found {shown}")

    def remark(self, line: int, refuser: Dialect, said: str) -> None:
        self.remarks.append(Remark(line, refuser, said))

    def read(self) -> Header:
        # A #xar_stop that only the image holds is none.
        head = self.data[: self._magic_at() or LONGEST]
        text, stop, _ = head.partition(STOP)
        lines = text.split(b"\n")
        shebang = self._shebang(lines[0])
        for number, line in enumerate(lines[1:], 2):
            self._line(number, line)
        ends = len(lines) + 1
        if not stop:
            self.fail(ends, "#xar_stop", "none before the image")
        offset = self._offset(ends)
        self._after_stop(ends, len(text) + len(STOP), offset)
        return Header(
            offset, self._uuid(ends), self._version(ends), self._dependencies(), self._target(ends), self._mount_root(),
            self._trampolines(), shebang, self._extra(), self._remarks(),
        )  # fmt: skip

    def _magic_at(self) -> int | None:
        return next((at for at in (PAGE, LONGEST) if self.data.startswith(MAGIC, at)), None)

    def _shebang(self, line: bytes) -> str:
        if not line.startswith(b"#!"):
            self.fail(1, f"the shebang {SHEBANG}", _quoted(line) if line else "an empty line")
        text = self._text(1, line)
        if not text.startswith(SHEBANG):
            self.remark(1, Dialect.PARSER, f"the shebang is {text}, not {SHEBANG}")
        return text

    def _text(self, number: int, line: bytes) -> str:
        """Return a line's text; only UTF-8 without control characters is."""
        if line.endswith(b"\r"):
            self.fail(number, "a line that ends in a newline alone", "a carriage return before it")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self.fail(number, "UTF-8 text", _quoted(line))
        if not text.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
            self.fail(number, "text without NUL and other control characters", _quoted(line))
        return text

    def _line(self, number: int, line: bytes) -> None:
        text = self._text(number, line)
        if not text or text.startswith("#"):
            what = "a comment" if text else "an empty line"
            return self.remark(number, Dialect.PARSER, f"{what} before #xar_stop")
        key, equals, value = text.partition("=")
        if not key or not equals or len(value) < 2 or value[0] != '"' or value[-1] != '"':
            self.fail(number, 'KEY="value" or #xar_stop', text)
        value = value[1:-1]
        if '"' in value:
            self.fail(number, f"a value of {key} without quotes in it", text)
        if key in self.values:
            if self.values[key] != value:
                earlier = f'line {self.lines[key]} says "{self.values[key]}"'
                self.fail(number, f"one value of {key} ({earlier})", f'"{value}"')
            self.remark(number, Dialect.PARSER, f"{key} stands on line {self.lines[key]} already")
        self.values[key] = value
        self.lines.setdefault(key, number)

    def _take(self, key: str) -> tuple[int, str]:
        """Return the line and the value of a key that is there."""
        return self.lines[key], self.values[key]

    def _offset(self, ends: int) -> int:
        if "OFFSET" not in self.values:
            self.fail(ends, 'OFFSET="4096" before #xar_stop', "none")
        line, value = self._take("OFFSET")
        if not (value.isascii() and value.isdecimal()):
            self.fail(line, "OFFSET to be a decimal number", f'"{value}"')
        offset = int(value[:20])  # no file is longer
        if offset not in (PAGE, LONGEST):
            self.fail(line, f"OFFSET to be {PAGE} or {LONGEST}", f'"{value}"')
        if offset + len(MAGIC) > len(self.data):
            self.fail(line, "OFFSET to lie in the file", f'"{value}" in a file of {len(self.data)} bytes')
        if not self.data.startswith(MAGIC, offset):
            at = self._magic_at()
            there = f"none at {value}" if at is None else f"it at {at}, not at {value}"
            self.fail(line, "the squashfs magic hsqs at OFFSET", there)
        if value != str(PAGE):
            self.remark(line, Dialect.XAREXEC, f'OFFSET is "{value}", not "{PAGE}"')
        if line != 2:
            self.remark(line, Dialect.PARSER, "OFFSET is not on line 2")
        return offset

    def _uuid(self, ends: int) -> str:
        if "UUID" not in self.values:
            self.fail(ends, "UUID of 8 hex digits before #xar_stop", "none")
        line, value = self._take("UUID")
        if len(value) != 8 or not _HEX.issuperset(value):
            self.fail(line, "UUID to be 8 hex digits", f'"{value}"')
        return value

    def _version(self, ends: int) -> str:
        if "VERSION" not in self.values:
            self.remark(ends, Dialect.PARSER, "VERSION is missing")
            return ""
        line, value = self._take("VERSION")
        if not (value.isascii() and value.isdecimal()):
            self.fail(line, "VERSION to be a decimal number", f'"{value}"')
        return value

    def _dependencies(self) -> tuple[str, ...]:
        names = self.values.get("DEPENDENCIES", "").split(" ")
        for name in names:
            if "/" in name or name in (".", ".."):
                self.fail(self.lines["DEPENDENCIES"], "DEPENDENCIES to be base names", f'"{name}"')
        return tuple(dict.fromkeys(filter(None, names)))

    def _target(self, ends: int) -> str | None:
        if "XAREXEC_TARGET" not in self.values:
            self.remark(ends, Dialect.PARSER, "XAREXEC_TARGET is missing")
            return None
        line, value = self._take("XAREXEC_TARGET")
        if value.startswith("/") or ".." in value.split("/"):
            self.fail(line, "XAREXEC_TARGET to be a path in the image", f'"{value}"')
        return value or None

    def _mount_root(self) -> str | None:
        if "MOUNT_ROOT" not in self.values:
            return None
        line, value = self._take("MOUNT_ROOT")
        if not value.startswith("/") or ".." in value.split("/"):
            self.fail(line, "MOUNT_ROOT to be an absolute path", f'"{value}"')
        return value

    def _trampolines(self) -> tuple[str, ...]:
        key = "XAREXEC_TRAMPOLINE_NAMES"
        if key not in self.values:
            return ()
        line, value = self._take(key)
        names = tuple(value[1:-1].split("' '"))
        framed = len(value) > 2 and value[0] == "'" == value[-1]
        if not framed or any("'" in name or not name for name in names):
            self.fail(line, f"{key} to be like 'a' 'b'", f'"{value}"')
        if GUARANTEED not in names:
            self.remark(line, Dialect.PARSER, f"{key} lacks {GUARANTEED}")
        return names

    def _extra(self) -> tuple[tuple[str, str], ...]:
        return tuple((key, value) for key, value in self.values.items() if key not in KEYS)

    def _after_stop(self, stop_line: int, start: int, offset: int) -> None:
        """See that what lies between #xar_stop and the image is text for sh, then newlines."""
        text = self.data[start:offset].rstrip(b"\n")
        lines = text.split(b"\n")
        for number, line in enumerate(lines, stop_line + 1):
            if line and not line.strip(b"\0 \t\r"):
                self.fail(number, "padding of newlines", _quoted(line))
            self._text(number, line.replace(b"\t", b" "))
        if text and start + len(text) == offset:
            self.fail(stop_line + len(lines), "a newline before OFFSET", _quoted(lines[-1][-8:]))

    def _remarks(self) -> tuple[Remark, ...]:
        """Return what was remarked; refuse what no reader accepts, since each has something against it."""
        reasons = {remark.refuser: remark for remark in reversed(self.remarks)}
        if len(reasons) == len(Dialect):
            first, second = (reasons[dialect] for dialect in Dialect)
            expected = "a header that xarexec_fuse or XarParser accepts"
            self.fail(second.line, expected, f"{second.said}; and on line {first.line}: {first.said}")
        return tuple(sorted(self.remarks, key=lambda remark: remark.line))


KEYS: Final = frozenset(
    ("OFFSET", "UUID", "VERSION", "DEPENDENCIES", "XAREXEC_TARGET", "MOUNT_ROOT", "XAREXEC_TRAMPOLINE_NAMES")
)


def _quoted(line: bytes) -> str:
    """Return bytes as a message can show them."""
    return '"' + line[:_CLIP].decode("utf-8", "backslashreplace").encode("unicode_escape").decode() + '"'
