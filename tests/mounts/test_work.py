"""UPPER.work, which we choose ourselves: ours, or refused."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound, Unsupported
from layerfs.mounts.work import make_work, resolve
from tests.host import require

STRANGER = 4711


@pytest.fixture
def upper(scratch: Path) -> Path:
    path = scratch / "upper"
    path.mkdir()
    return path


def test_it_is_made_beside_the_upper_and_found_again(upper: Path) -> None:
    for _ in range(2):
        assert make_work(bytes(upper)) == bytes(upper) + b".work"
        assert os.stat(bytes(upper) + b".work").st_mode & 0o7777 == 0o700


def test_it_is_beside_what_a_symlink_means(upper: Path) -> None:
    (upper.parent / "link").symlink_to(upper)
    assert make_work(bytes(upper.parent / "link")) == bytes(upper) + b".work"
    assert resolve(bytes(upper.parent / "link")) == bytes(upper)


@pytest.mark.parametrize(("kind", "said"), [("link", "is a symlink"), ("broken", "is a symlink"), ("file", "a file")])
def test_what_is_no_directory_is_refused(upper: Path, kind: str, said: str) -> None:
    work = Path(f"{upper}.work")
    if kind == "file":
        work.touch()
    else:
        work.symlink_to("upper" if kind == "link" else "nowhere")
    with pytest.raises(InvalidArgument, match=said) as error:
        make_work(bytes(upper))
    assert "--work DIR" in error.value.hint


def test_a_directory_of_somebody_else_is_refused(upper: Path) -> None:
    require("root")
    work = Path(f"{upper}.work")
    work.mkdir()
    os.chown(work, STRANGER, STRANGER)
    with pytest.raises(InvalidArgument, match=f"belongs to somebody else .uid {STRANGER}"):
        make_work(bytes(upper))
    assert os.listdir(work) == []


def test_where_none_can_be_made_the_option_is_named(upper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: bytes, _mode: int) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(Unsupported, match=r"upper\.work: Permission denied") as error:
        make_work(bytes(upper))
    assert "--work DIR" in error.value.hint


def test_an_upper_that_is_none_is_said_to_be_none(upper: Path) -> None:
    with pytest.raises(NotFound, match="no such upper"):
        make_work(bytes(upper / "absent"))
    (upper / "file").touch()
    with pytest.raises(InvalidArgument, match="is not a directory"):
        make_work(bytes(upper / "file"))
