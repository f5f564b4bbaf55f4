"""Since when a filesystem has been mounted."""

import os
import subprocess
from pathlib import Path

import pytest

from layerfs.store.session import session_of
from tests.host import require


@pytest.mark.mounts
def test_session_ends_when_the_filesystem_is_mounted_anew(scratch: Path) -> None:
    require("root")
    place = scratch / "place"
    place.mkdir()

    def mounted() -> str:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        assert session_of(os.fsencode(place)) == session_of(os.fsencode(place))
        return session_of(os.fsencode(place))

    first, second = mounted(), mounted()
    assert len({first, second, session_of(os.fsencode(scratch))}) == 3
