"""Values of options, one by one."""

from collections.abc import Callable
from typing import Any

import pytest

from layerfs.errors import WrongUsage
from layerfs.spec.values import (
    MAX_ID,
    MAX_SECONDS,
    number_between,
    one_of,
    read_absent,
    read_id_ranges,
    read_path,
    read_present,
    read_seconds,
    split,
    unescape,
)
from layerfs.union.options import IdRange


def test_splitting_and_unescaping_undo_escaping() -> None:
    names = [b"a:b", b"c\\", b"\\:", b"d,e\\\\", b":", b"\n"]
    escaped = [name.replace(b"\\", b"\\\\").replace(b":", b"\\:") for name in names]
    assert [unescape(part) for part in split(b":".join(escaped), b":")] == names


Reader = Callable[[str, bytes | None], Any]
READ: list[tuple[Reader, bytes | None, Any]] = [
    (read_path, b"a b", b"a b"),
    (read_present, None, True),
    (read_absent, b"1", False),
    (number_between(1, 9), b"09", 9),
    (read_seconds, b".5", 0.5),
    (one_of({"on": 1, "": 2}), None, 2),
    (read_id_ranges, b":0:1:2", (IdRange(inside=1, outside=0, count=2),)),
]
REFUSED: list[tuple[Reader, bytes | None, str]] = [
    (read_path, b"", "name takes a directory"),
    (read_present, b"yes", "name takes no value"),
    (number_between(1, 9), b"10", "name takes a number from 1 to 9"),
    (number_between(1, 9), b"9" * 5000, "name takes a number from 1 to 9"),
    (read_seconds, b"%d" % (MAX_SECONDS + 1), "name takes seconds"),
    (one_of({"on": 1, "": 2}), b"off", "name takes on"),
    (read_id_ranges, b"0:%d:1" % (MAX_ID + 1), "name takes ON-DISK:SHOWN:COUNT"),
]


@pytest.mark.parametrize(("read", "value", "meant"), READ)
def test_a_value_means(read: Reader, value: bytes | None, meant: Any) -> None:
    assert read("name", value) == meant


@pytest.mark.parametrize(("read", "value", "hint"), REFUSED)
def test_a_value_that_is_none_is_refused_with_what_the_option_takes(
    read: Reader, value: bytes | None, hint: str
) -> None:
    with pytest.raises(WrongUsage, match="bad mount option") as refused:
        read("name", value)
    assert refused.value.hint.startswith(hint)
