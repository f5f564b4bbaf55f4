"""The root directory of a new layer."""

import os
import stat
from pathlib import Path

from layerfs.snapshots.root import make_root
from tests.host import require


def test_root_looks_like_the_one_below(scratch: Path) -> None:
    require("root")
    below = scratch / "below"
    below.mkdir()
    os.chown(below, 5, 6)
    below.chmod(0o1730)
    os.setxattr(below, "user.x", b"1")
    os.setxattr(below, "trusted.overlay.opaque", b"y")
    os.setxattr(below, "trusted.overlay.overlay.opaque", b"y")  # of an overlay in a container
    os.utime(below, ns=(1, 2))
    made = os.fsencode(scratch / "made")
    make_root(made, os.fsencode(below))
    st = os.stat(made)
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), st.st_mtime_ns) == (5, 6, 0o1730, 2)
    assert sorted(os.listxattr(made)) == ["trusted.overlay.overlay.opaque", "user.x"]


def test_root_with_nothing_below_is_plain(scratch: Path) -> None:
    made = os.fsencode(scratch / "made")
    os.umask(0o077)
    try:
        make_root(made, None)
    finally:
        os.umask(0o022)
    assert stat.S_IMODE(os.stat(made).st_mode) == 0o755
