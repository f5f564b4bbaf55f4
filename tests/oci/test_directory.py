"""A directory as target: what overlays will read there, by root and by others."""

import os
import stat
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument
from tests.oci.tars import END, apply, below, directory, file, look

pytestmark = pytest.mark.usefixtures("each_way")


def test_marks_are_those_that_were_asked_for(scratch: Path) -> None:
    apply(directory(b"d") + file(b"d/f") + file(b"g") + END, scratch / "base")
    for marks in (b"user.overlay.", b"trusted.overlay."):
        place = scratch / marks.decode()
        with below(scratch / "base") as lower:
            apply(file(b".wh.g") + file(b"d/.wh..wh..opq") + END, place, below=lower, marks=marks)
        assert stat.S_ISCHR((place / "g").lstat().st_mode)
        assert os.listxattr(place / "d") == [os.fsdecode(marks) + "opaque"]


def test_where_no_device_can_be_made_marks_are_xattrs(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "mknod", refuse)
    apply(directory(b"d") + file(b"d/f") + file(b"d/g") + END, scratch / "base")
    with below(scratch / "base") as lower:
        apply(file(b"d/.wh.f") + END, scratch / "one", below=lower, marks=b"user.overlay.")
        apply(file(b"d/.wh.f") + file(b"d/.wh..wh..opq") + END, scratch / "two", below=lower, marks=b"user.overlay.")
        apply(file(b"d/.wh.f") + file(b"d/f", b"new") + END, scratch / "three", below=lower, marks=b"user.overlay.")
    found = look(scratch / "one")
    assert found["d"].xattrs == (("user.overlay.opaque", b"x"),)
    assert found["d/f"].xattrs == (("user.overlay.whiteout", b"y"),)
    assert (look(scratch / "two")["d"].xattrs, os.listdir(scratch / "two/d")) == ((("user.overlay.opaque", b"y"),), [])
    assert (scratch / "three/d/f").read_bytes() == b"new"


def test_upper_must_be_empty(scratch: Path) -> None:
    (scratch / "t").mkdir()
    (scratch / "t/f").write_bytes(b"mine")
    with pytest.raises(InvalidArgument):
        apply(END, scratch / "t")
    assert (scratch / "t/f").read_bytes() == b"mine"
