"""Which files have which mountpoint, and what is no XAR."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.xarexec.xarfile import examine
from tests.host import require
from tests.waiting import PATIENCE
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
    assert "-seed-mine-" in place_of(path).name
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


PLACE = """
import os, sys
from layerfs.xarexec.xarfile import examine, mountpoint_of
print(os.fsdecode(mountpoint_of(examine(os.fsencode(sys.argv[1])))))
"""


def test_callers_that_do_not_end_together_share_no_mount(
    xar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The end of a container, or of a unit, took the files of a program elsewhere that had found its mount."""
    path = xar("a.xar")
    words = ["unshare", "--pid", "--fork", sys.executable, "-c", PLACE, str(path)]
    require("root")
    inside = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()
    assert "-pid-" in inside
    assert inside != str(place_of(path))
    real, group = open, tmp_path / "cgroup"

    def opening(name: object, *arguments: Any, **options: Any) -> Any:
        return real(group if name == "/proc/self/cgroup" else name, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", opening)
    names = set()
    for text in ("0::/\n", "0::/user.slice/a.scope\n", "0::/system.slice/b.service\n", "1:name=systemd:/c\n2:cpu:/x\n"):
        group.write_text(text)
        names.add(place_of(path).name)
    assert len(names) == 4 and sum("-group-" in name for name in names) == 3
