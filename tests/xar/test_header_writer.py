"""XAR headers that are written: both reference readers take them, and what they cannot hold is refused."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.xar.header import GUARANTEED, LONGEST, MAGIC, Dialect, Header, parse_header
from layerfs.xar.header_writer import make_header
from tests.xar.readers import accepting


def read(data: bytes) -> Header:
    return parse_header(data[: LONGEST + 4], b"app.xar")


WRITTEN: list[dict[str, object]] = [
    {},
    {"target": "bin/app", "dependencies": ("b.xar", "c.xar")},
    {"mount_root": "/mnt/x", "trampolines": ("a b", "it")},
    {"dependencies": ("ö.xar",), "target": "größe"},
]


@pytest.mark.parametrize("fields", WRITTEN, ids=str)
def test_headers_that_are_written_are_taken_by_both_readers(fields: dict[str, object]) -> None:
    data = make_header(uuid="8f583eae", version="7", **fields) + MAGIC  # type: ignore[arg-type]
    header = read(data)
    assert len(data) == 4096 + 4
    assert header.dialects == tuple(Dialect)
    assert set(accepting(data)) == {"xarexec_fuse", "XarParser"}
    written = {key: getattr(header, key) for key in fields}
    assert written == fields | ({"trampolines": ("a b", "it", GUARANTEED)} if "trampolines" in fields else {})


def test_a_long_header_takes_two_pages_and_a_longer_one_is_refused() -> None:
    many = [f"{number:0100}.xar" for number in range(90)]
    header = make_header(uuid="8f583eae", version="7", dependencies=many[:60])
    assert (len(header), read(header + MAGIC).dialects) == (8192, (Dialect.PARSER,))
    with pytest.raises(InvalidArgument, match=r"the header would have \d+ bytes of at most 8192"):
        make_header(uuid="8f583eae", version="7", dependencies=many)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"uuid": "xyz"}, "UUID to be 8 hex digits"),
        ({"version": "1.2"}, "VERSION to be a decimal number"),
        ({"target": "/bin/sh"}, "XAREXEC_TARGET to be a path in the image"),
        ({"target": 'a"b'}, "without quotes"),
        ({"target": 'a"\nMOUNT_ROOT="/x'}, "cannot hold the target"),
        ({"target": "a\nb"}, 'KEY="value"'),
        ({"target": "a\udcffb"}, "UTF-8"),
        ({"dependencies": ("a b",)}, "cannot hold the dependencies"),
        ({"dependencies": ("a/b",)}, "base names"),
        ({"dependencies": ("",)}, "cannot hold the dependencies"),
        ({"mount_root": "x"}, "MOUNT_ROOT to be an absolute path"),
        ({"trampolines": ("it's",)}, "XAREXEC_TRAMPOLINE_NAMES"),
    ],
    ids=str,
)
def test_what_a_header_cannot_hold_is_not_written(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        make_header(**({"uuid": "8f583eae", "version": "7"} | fields))  # type: ignore[arg-type]
