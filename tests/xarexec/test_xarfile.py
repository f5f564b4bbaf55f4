"""Which files have which mountpoint, and what is no XAR."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.xarexec.xarfile import examine
from tests.xarexec.conftest import home_in, place_of

NAMESPACE = os.stat("/proc/self/ns/mnt").st_ino


def test_a_place_is_named_by_uuid_and_namespace(xar: Callable[..., Path], root: Path) -> None:
    found = place_of(xar("a.xar"))
    assert found.parent == home_in(root)
    assert found.name.startswith("8f583eae-") and found.name.endswith(f"-ns-{NAMESPACE}")


def test_one_uuid_is_not_one_place(xar: Callable[..., Path]) -> None:
    assert place_of(xar("a.xar", "one")) != place_of(xar("b.xar", "other"))


def test_a_replaced_file_has_another_place(xar: Callable[..., Path]) -> None:
    before = place_of(xar("a.xar", "one"))
    after = place_of(xar("a.xar", "two"))
    assert before != after
    with open(xar("a.xar", "three"), "r+b") as file:
        third = place_of(Path(file.name))
        file.seek(8000)
        file.write(b"x")
    assert len({before, after, third, place_of(Path(file.name))}) == 4


def test_a_seed_makes_a_place_of_its_own(xar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = xar("a.xar")
    monkeypatch.setenv("XAR_MOUNT_SEED", "mine")
    assert "-seed-mine-ns-" in place_of(path).name
    monkeypatch.setenv("XAR_MOUNT_SEED", "../mine")
    assert "seed" not in place_of(path).name


HEADER = b'#!/usr/bin/env xarexec_fuse\nOFFSET="4096"\nUUID="../../xx"\nVERSION="1"\n#xar_stop\n'
WRONG = {
    "no XAR at all": (b"text", InvalidArgument, "is not a XAR"),
    "a UUID that is a path": (HEADER, Corrupt, "UUID"),
}


@pytest.mark.parametrize(("content", "error", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_xar_has_no_place(content: bytes, error: type[Exception], said: str, scratch: Path) -> None:
    (scratch / "file").write_bytes(content.ljust(4096, b"\n") + b"hsqs")
    with pytest.raises(error, match=said):
        examine(bytes(scratch / "file"))
