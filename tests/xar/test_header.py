"""XAR headers made byte by byte: what is read, what is remarked, what is refused and in which words."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerfs.errors import Corrupt
from layerfs.xar.header import GUARANTEED, LONGEST, MAGIC, Dialect, Header, parse_header, read_header
from tests.xar.readers import PLAIN, SHEBANG, TAIL, accepting, lines_of, xar

XAREXEC, PARSER = Dialect.XAREXEC, Dialect.PARSER
BOTH = (XAREXEC, PARSER)


def read(data: bytes) -> Header:
    return parse_header(data[: LONGEST + 4], b"app.xar")


def test_the_format_document_s_example_is_read() -> None:
    assert read(xar(lines_of())) == Header(4096, "8f583eae", "1514764800", (), "bootstrap_xar.sh")


READABLE: list[tuple[str, bytes, dict[str, object], tuple[Dialect, ...]]] = [
    ("dependencies", xar(lines_of(DEPENDENCIES="b.xar c.xar")), {"dependencies": ("b.xar", "c.xar")}, BOTH),
    ("dependencies far apart, one twice", xar(lines_of(DEPENDENCIES=" b  c b")), {"dependencies": ("b", "c")}, BOTH),
    ("no dependencies at all", xar(lines_of(DEPENDENCIES=None)), {"dependencies": ()}, BOTH),
    ("a mount root", xar(lines_of(MOUNT_ROOT="/mnt/x")), {"mount_root": "/mnt/x"}, BOTH),
    ("an unknown key", xar(lines_of(COLOUR="a=b")), {"extra": (("COLOUR", "a=b"),)}, BOTH),
    ("a name in UTF-8", xar(lines_of(XAREXEC_TARGET="bin/größe")), {"target": "bin/größe"}, BOTH),
    ("capital digits", xar(lines_of(UUID="8F583EAE")), {"uuid": "8F583EAE"}, BOTH),
    ("an empty target", xar(lines_of(XAREXEC_TARGET="")), {"target": None}, BOTH),
    ("a longer shebang", xar(lines_of(f"{SHEBANG} -x")), {"shebang": f"{SHEBANG} -x"}, BOTH),
    ("nothing after the stop", xar(lines_of(tail=("#xar_stop",))), {"target": "bootstrap_xar.sh"}, BOTH),
    ("a tab for sh", xar(lines_of(tail=("#xar_stop", "\texit 1"))), {"uuid": "8f583eae"}, BOTH),
    (
        "trampolines",
        xar(lines_of(XAREXEC_TRAMPOLINE_NAMES=f"'{GUARANTEED}' ' a ' ' '")),
        {"trampolines": (GUARANTEED, " a ", " ")},
        BOTH,
    ),
    ("8192", xar(lines_of(OFFSET="8192"), 8192), {"offset": 8192}, (PARSER,)),
    ("a header of two pages", xar(lines_of(OFFSET="8192", NOTE="x" * 5000), 8192), {"offset": 8192}, (PARSER,)),
    ("a leading zero", xar(lines_of(OFFSET="04096")), {"offset": 4096}, (PARSER,)),
    ("another shebang", xar(lines_of("#!/bin/echo no program")), {"shebang": "#!/bin/echo no program"}, (XAREXEC,)),
    ("a comment", xar([SHEBANG, "# note", *lines_of()[1:]]), {"offset": 4096}, (XAREXEC,)),
    ("an empty line", xar([*lines_of()[:3], "", *lines_of()[3:]]), {"uuid": "8f583eae"}, (XAREXEC,)),
    ("OFFSET last", xar([SHEBANG, *reversed(lines_of(tail=())[1:]), *TAIL]), {"offset": 4096}, (XAREXEC,)),
    ("the same twice", xar([*lines_of()[:3], *lines_of()[2:]]), {"uuid": "8f583eae"}, (XAREXEC,)),
    ("no version", xar(lines_of(VERSION=None)), {"version": ""}, (XAREXEC,)),
    ("no target", xar(lines_of(XAREXEC_TARGET=None)), {"target": None}, (XAREXEC,)),
    ("other trampolines", xar(lines_of(XAREXEC_TRAMPOLINE_NAMES="'a'")), {"trampolines": ("a",)}, (XAREXEC,)),
    ("magic at both places", xar(lines_of(), image=(MAGIC * 1024) + MAGIC), {"offset": 4096}, BOTH),
]


@pytest.mark.parametrize(
    ("data", "expected", "dialects"), [row[1:] for row in READABLE], ids=[row[0] for row in READABLE]
)
def test_what_either_reader_takes_is_read(
    data: bytes, expected: dict[str, object], dialects: tuple[Dialect, ...]
) -> None:
    header = read(data)
    assert {key: getattr(header, key) for key in expected} == expected
    assert header.dialects == dialects
    assert tuple(accepting(data)) == tuple(dialect.value for dialect in dialects)


PIECES = st.sampled_from(
    [
        *lines_of(),
        *lines_of(),
        'OFFSET="8192"',
        'UUID="00000000"',
        "# note",
        "",
        "#xar_stop",
        'X="1"',
        'X="2"',
        "exit 1",
    ]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=4), st.integers(0, 9), st.sampled_from([4096, 8192]))
def test_what_is_read_is_what_the_accepting_readers_read(more: list[str], at: int, offset: int) -> None:
    lines = lines_of(OFFSET=str(offset))
    lines[at:at] = more
    data = xar(lines, offset)
    readers = accepting(data)
    try:
        header = read(data)
    except Corrupt:
        return
    assert {dialect.value for dialect in header.dialects} == set(readers)
    for values in readers.values():
        assert (header.offset, header.uuid, header.version) == (
            int(values["OFFSET"]),
            values["UUID"],
            values.get("VERSION", ""),
        )
        assert dict(header.extra) == {key: value for key, value in values.items() if key not in PLAIN}


def test_reading_a_header_leaves_the_descriptor_where_it_was(scratch: Path) -> None:
    path = scratch / "app.xar"
    path.write_bytes(xar(lines_of()))
    with path.open("rb", buffering=0) as file:
        file.seek(7)
        assert read_header(file.fileno(), b"app.xar").uuid == "8f583eae"
        assert file.tell() == 7
