"""XAR headers with one thing wrong: the message names the file, the line, what was expected and what was found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerfs.errors import Corrupt
from layerfs.xar.header import LONGEST, MAGIC, Header, parse_header
from tests.xar.readers import SHEBANG, TAIL, lines_of, xar


def read(data: bytes) -> Header:
    return parse_header(data[: LONGEST + 4], b"app.xar")


def cut(key: str, value: str) -> list[str]:
    """The plain header's lines with one key's line replaced by another text."""
    return [value if line.startswith(f"{key}=") else line for line in lines_of()]


def twice(line: str) -> list[str]:
    return [*lines_of(tail=()), line, *TAIL]


LONG = "x" * 4100
CORRUPT: list[tuple[str, bytes, str]] = [
    ("no shebang", xar(lines_of()[1:]), f'line 1: expected the shebang {SHEBANG}, found "OFFSET'),
    ("an empty first line", xar(["", *lines_of()]), "line 1: expected the shebang"),
    ("an empty file", b"", "line 1: expected the shebang #!/usr/bin/env xarexec_fuse, found an empty line"),
    (
        "a value without quotes",
        xar(cut("UUID", "UUID=8f583eae")),
        'line 3: expected KEY="value" or #xar_stop, found UUID=8',
    ),
    ("half a quote", xar(cut("UUID", 'UUID="8f583eae')), 'line 3: expected KEY="value"'),
    ("one quote for two", xar(cut("UUID", 'UUID="')), 'line 3: expected KEY="value"'),
    ("text behind the value", xar(cut("UUID", 'UUID="8f583eae" ')), 'line 3: expected KEY="value"'),
    ("no key", xar(twice('="x"')), 'line 7: expected KEY="value" or #xar_stop, found ="x"'),
    ("a command", xar(twice("exit 1")), 'line 7: expected KEY="value" or #xar_stop, found exit 1'),
    (
        "a quote in a value",
        xar(cut("UUID", 'UUID="8f58"3eae"')),
        "line 3: expected a value of UUID without quotes in it",
    ),
    ("a quote in an unknown value", xar(twice('NOTE="a"b"')), "line 7: expected a value of NOTE without quotes"),
    (
        "two uuids",
        xar(twice('UUID="00000000"')),
        'line 7: expected one value of UUID (line 3 says "8f583eae"), found "0',
    ),
    ("two offsets", xar(twice('OFFSET="8192"'), 8192), 'line 7: expected one value of OFFSET (line 2 says "4096")'),
    (
        "two unknown",
        xar([*lines_of(N="1", tail=()), 'N="2"', *TAIL]),
        'line 8: expected one value of N (line 7 says "1")',
    ),
    ("no offset", xar(lines_of(OFFSET=None)), 'line 6: expected OFFSET="4096" before #xar_stop, found none'),
    ("offset in words", xar(lines_of(OFFSET="4k")), 'line 2: expected OFFSET to be a decimal number, found "4k"'),
    ("an empty offset", xar(lines_of(OFFSET="")), 'line 2: expected OFFSET to be a decimal number, found ""'),
    ("a negative offset", xar(lines_of(OFFSET="-4096")), "line 2: expected OFFSET to be a decimal number"),
    ("digits of elsewhere", xar(lines_of(OFFSET="٤٠٩٦")), "line 2: expected OFFSET to be a decimal number"),
    ("an odd offset", xar(lines_of(OFFSET="4095")), 'line 2: expected OFFSET to be 4096 or 8192, found "4095"'),
    ("offset zero", xar(lines_of(OFFSET="0")), "line 2: expected OFFSET to be 4096 or 8192"),
    ("a far offset", xar(lines_of(OFFSET="12288"), 12288), 'line 2: expected OFFSET to be 4096 or 8192, found "12288"'),
    ("a huge offset", xar(lines_of(OFFSET="9" * 5000), 8192), "line 2: expected OFFSET to be 4096 or 8192"),
    (
        "no image",
        xar(lines_of(), image=b""),
        'line 2: expected OFFSET to lie in the file, found "4096" in a file of 4096 b',
    ),
    ("a torn image", xar(lines_of(), image=b"hsq"), "line 2: expected OFFSET to lie in the file"),
    ("a short file", xar(lines_of(OFFSET="8192"))[:4096], "line 2: expected OFFSET to lie in the file"),
    (
        "no magic",
        xar(lines_of(), image=b"sqsh" * 9),
        "line 2: expected the squashfs magic hsqs at OFFSET, found none at 4096",
    ),
    (
        "magic elsewhere",
        xar(lines_of(OFFSET="8192"), image=MAGIC + bytes(5000)),
        "line 2: expected the squashfs magic hsqs at OFFSET, found it at 4096, not at 8192",
    ),
    ("no uuid", xar(lines_of(UUID=None)), "line 6: expected UUID of 8 hex digits before #xar_stop, found none"),
    ("a short uuid", xar(lines_of(UUID="8f583ea")), 'line 3: expected UUID to be 8 hex digits, found "8f583ea"'),
    ("a long uuid", xar(lines_of(UUID="8f583eae-8")), "line 3: expected UUID to be 8 hex digits"),
    ("an empty uuid", xar(lines_of(UUID="")), 'line 3: expected UUID to be 8 hex digits, found ""'),
    ("a uuid that is a path", xar(lines_of(UUID="../../ab")), "line 3: expected UUID to be 8 hex digits"),
    ("version in words", xar(lines_of(VERSION="one")), 'line 4: expected VERSION to be a decimal number, found "one"'),
    ("an empty version", xar(lines_of(VERSION="")), 'line 4: expected VERSION to be a decimal number, found ""'),
    ("a version that is a path", xar(lines_of(VERSION="../1")), "line 4: expected VERSION to be a decimal number"),
    ("no stop", xar(lines_of(tail=())), "expected #xar_stop, found none before the image"),
    (
        "no stop, but its tail",
        xar(lines_of(tail=TAIL[1:])),
        'line 7: expected KEY="value" or #xar_stop, found echo This',
    ),
    ("a stop with a space", xar(lines_of(tail=("#xar_stop ",))), "expected #xar_stop, found none before the image"),
    (
        "a stop in the image",
        xar(lines_of(tail=()), image=MAGIC + b"\n#xar_stop\n" * 9),
        "expected #xar_stop, found none",
    ),
    (
        "a header over OFFSET",
        xar(lines_of(NOTE=LONG), 8192),
        "line 2: expected the squashfs magic hsqs at OFFSET, found it at",
    ),
    (
        "a target above",
        xar(lines_of(XAREXEC_TARGET="/bin/sh")),
        "line 6: expected XAREXEC_TARGET to be a path in the image",
    ),
    (
        "a target aside",
        xar(lines_of(XAREXEC_TARGET="a/../../b")),
        "line 6: expected XAREXEC_TARGET to be a path in the",
    ),
    (
        "a dependency's path",
        xar(lines_of(DEPENDENCIES="a ../b")),
        'line 5: expected DEPENDENCIES to be base names, found "..',
    ),
    (
        "a dependency on ..",
        xar(lines_of(DEPENDENCIES="..")),
        'line 5: expected DEPENDENCIES to be base names, found ".."',
    ),
    (
        "a relative root",
        xar(lines_of(MOUNT_ROOT="mnt")),
        'line 7: expected MOUNT_ROOT to be an absolute path, found "mnt"',
    ),
    ("a root with ..", xar(lines_of(MOUNT_ROOT="/mnt/..")), "line 7: expected MOUNT_ROOT to be an absolute path"),
    (
        "no trampoline",
        xar(lines_of(XAREXEC_TRAMPOLINE_NAMES="")),
        "line 7: expected XAREXEC_TRAMPOLINE_NAMES to be like",
    ),
    (
        "an empty one",
        xar(lines_of(XAREXEC_TRAMPOLINE_NAMES="''")),
        "line 7: expected XAREXEC_TRAMPOLINE_NAMES to be like",
    ),
    (
        "two spaces",
        xar(lines_of(XAREXEC_TRAMPOLINE_NAMES="'a'  'b'")),
        "line 7: expected XAREXEC_TRAMPOLINE_NAMES to be",
    ),
    (
        "bare names",
        xar(lines_of(XAREXEC_TRAMPOLINE_NAMES="a b")),
        "line 7: expected XAREXEC_TRAMPOLINE_NAMES to be like 'a'",
    ),
    (
        "carriage returns",
        xar([f"{line}\r" for line in lines_of()]),
        "line 1: expected a line that ends in a newline alone",
    ),
    (
        "one carriage return",
        xar(cut("UUID", 'UUID="8f583eae"\r')),
        "line 3: expected a line that ends in a newline alone",
    ),
    ("a NUL", xar(lines_of(NOTE="a\0b")), "line 7: expected text without NUL and other control characters"),
    ("a tab", xar(lines_of(DEPENDENCIES="a\tb")), "line 5: expected text without NUL and other control characters"),
    (
        "an escape",
        xar(lines_of(NOTE="\x1b[2J")),
        'line 7: expected text without NUL and other control characters, found "N',
    ),
    ("Latin-1", xar(lines_of(XAREXEC_TARGET="gr\udcf6sse")), 'line 6: expected UTF-8 text, found "XAREXEC_TARGET'),
    ("NUL after the stop", xar([*lines_of(), "\0"]), "line 11: expected padding of newlines"),
    ("padding of NULs", xar(lines_of(), 4096).replace(b"\n\n", b"\n\0"), "expected padding of newlines"),
    ("padding of spaces", xar([*lines_of(), "", "   "]), 'line 12: expected padding of newlines, found "   "'),
    ("Latin-1 after the stop", xar([*lines_of(), "\udcf6"]), 'line 11: expected UTF-8 text, found "\\\\xf6"'),
    ("text up to the image", xar([*lines_of()])[:4095] + b"x" + MAGIC, 'expected a newline before OFFSET, found "x"'),
    (
        "what neither reader takes",
        xar([SHEBANG, *lines_of(OFFSET="8192")[1:3], "# note", *lines_of()[3:]], 8192),
        "line 4: expected a header that xarexec_fuse or XarParser accepts, found a comment before #xar_stop; and on",
    ),
]


@pytest.mark.parametrize(("data", "said"), [row[1:] for row in CORRUPT], ids=[row[0] for row in CORRUPT])
def test_what_is_wrong_is_named_with_its_line(data: bytes, said: str) -> None:
    with pytest.raises(Corrupt) as caught:
        read(data)
    assert caught.value.message.startswith("app.xar: line ")
    assert said in caught.value.message
    assert len(caught.value.message) < 300


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_garbage_is_corrupt_and_never_a_bug(noise: bytes, at: int, replaced: bool) -> None:
    data = xar(lines_of())
    data = data[:at] + noise + data[at + len(noise) if replaced else at :]
    try:
        read(data)
    except Corrupt as error:
        assert "app.xar: line " in str(error)
