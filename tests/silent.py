"""A FUSE mount that does not answer."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerfs.mounts.registry import records
from tests.host import BIN, require


@contextmanager
def a_silent_mount(scratch: Path) -> Iterator[Path]:
    """A FUSE mount whose server reads no more requests: it was stopped. A layer, an image and a XAR are in it."""
    require("root", "fuse", "mksquashfs")
    for name in ("low/dir", "mnt", "local", "upper"):
        (scratch / name).mkdir(parents=True)
    (scratch / "low/dir/file").write_text("file")
    subprocess.run(
        [BIN / "layerfs", "xar", "build", scratch / "low", "-o", scratch / "one.xar"], check=True, capture_output=True
    )
    shutil.copy(scratch / "one.xar", scratch / "low/one.xar")
    subprocess.run([BIN / "layerfs", "mount", "--driver=fuse", scratch / "low", scratch / "mnt"], check=True)
    (record,) = [record for record in records() if record.mountpoint == os.fsencode(scratch / "mnt")]
    os.kill(record.pid, signal.SIGSTOP)
    try:
        yield scratch / "mnt"
    finally:
        os.kill(record.pid, signal.SIGCONT)
        subprocess.run([BIN / "layerfs", "umount", scratch / "mnt"], check=True)
