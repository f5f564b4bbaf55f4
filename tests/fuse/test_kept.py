"""What answers keep: the upper is synced only if something was written; the union closes files by itself again."""

from contextlib import closing
from pathlib import Path

import pytest

from layerfs.fuse.kept import Kept
from layerfs.union import opened
from tests.oracle.trees import file
from tests.union.box import Box


@pytest.mark.parametrize("has_written", [False, True])
def test_only_what_was_written_is_synced(scratch: Path, monkeypatch: pytest.MonkeyPatch, has_written: bool) -> None:
    synced: list[bool] = []
    with Box(scratch, {b"f": file(b"")}) as box, closing(Kept(box.union)) as kept:
        monkeypatch.setattr(box.union, "sync", lambda: synced.append(True))
        kept.has_written = has_written
        kept.bring_to_disk()
    assert bool(synced) == has_written


def test_the_union_closes_files_by_itself_once_nothing_is_kept(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"")}) as box:
        kept = Kept(box.union)
        assert box.ov.table.close_last == kept.freeing.close_last
        kept.close()
        assert box.ov.table.close_last is opened.close
