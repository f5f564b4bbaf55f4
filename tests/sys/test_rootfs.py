"""A tree as the root directory of a command; what the command sees is in tests/cli/test_run.py."""

import os
from pathlib import Path

from layerfs.sys.rootfs import _remove_empty


def test_what_was_made_for_a_mount_goes_unless_the_command_filled_it(scratch: Path) -> None:
    for name in ("directory", "full"):
        (scratch / name).mkdir()
    (scratch / "full/file").touch()
    (scratch / "empty").touch()
    (scratch / "written").write_text("x")
    for name in ("directory", "full", "empty", "written", "never there"):
        _remove_empty(os.fsencode(scratch / name))
    assert sorted(os.listdir(scratch)) == ["full", "written"]
