"""A verb's grammar: what is read without argparse is what argparse makes of it, and all else is left to argparse."""

import pytest

from layerfs.cli import snapshot
from layerfs.cli.parser import build_parser

LINES = (
    "prepare key",
    "prepare key parent --label a=b --label c= --json",
    "prepare --root=/x --snapshotter xar key",
    "view key -- -parent",
    "commit name key --parent base --volatile",
    "rm a b c",
    "ls",
    "ls kind==active name==x --tree",
    "usage --json",
    "label key a=b c=d",
    "mount key /mnt",
    "umount /a /b",
    "diff one other --json",
)
ASKED = ("", "prepare", "prepare a b c", "rm", "prepare --js key", "prepare key --label", "ls --help", "nothing", "-h")


@pytest.mark.parametrize("line", LINES)
def test_well_formed_line_is_read_as_argparse_reads_it(line: str) -> None:
    words = line.split()
    found = snapshot.quick(words)
    assert found is not None
    parsed = build_parser(("snapshot",)).parse_args(["snapshot", *words])
    assert vars(found) == vars(parsed)


@pytest.mark.parametrize("line", ASKED)
def test_other_lines_are_left_to_argparse(line: str) -> None:
    assert snapshot.quick(line.split()) is None
