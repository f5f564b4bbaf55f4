"""Paths on filesystems that do not answer are found without asking these."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import NotReady
from layerfs.sys import reach
from layerfs.sys.reach import see_that_they_answer
from tests.silent import a_silent_mount

pytestmark = pytest.mark.mounts


@pytest.fixture
def silent(scratch: Path) -> Iterator[Path]:
    with a_silent_mount(scratch) as place:
        yield place


def test_a_path_is_found_to_lead_to_a_silent_filesystem_also_through_symlinks(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "TIMEOUT", 0.2)
    place = silent.parent
    (place / "link").symlink_to("local/../mnt/dir")
    (place / "absolute").symlink_to(place / "link")
    (place / "loop").symlink_to("loop")
    for path in (silent, silent / "dir/file", place / "link", place / "absolute", place / "absolute/file"):
        monkeypatch.chdir(place)
        with pytest.raises(NotReady, match=f"{place}.* a filesystem .fuse.layerfs. that does not answer"):
            see_that_they_answer([os.fsencode(place), os.fsencode(path.relative_to(place))])
    fine = (place, place / "local", place / "loop", place / "absent/x", place / "link/../..")
    see_that_they_answer(map(os.fsencode, fine[:-1]))


def test_what_answers_is_let_through_and_what_is_wrong_is_left_to_its_user(scratch: Path) -> None:
    (scratch / "private").mkdir(mode=0)
    see_that_they_answer([b"/", b"relative", b"", os.fsencode(scratch / "private/x"), os.fsencode(scratch / "absent")])
