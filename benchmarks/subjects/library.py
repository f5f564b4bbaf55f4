"""What a program presents that has layerfs as a library: `prepare` and `Mount.perform()`, without a start of Python.

The program is started once for a run and holds the store open, as a daemon does. A command is a line to its pipe and
one back, through /bin/sh, which takes about a millisecond.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.model import BuiltTree, Case, Site
from benchmarks.subjects.snapshots import SnapshotSubject, top_of, until

PROGRAM = """
import sys
import layerfs
from layerfs.mounts.apply import release

root, driver, asked, answered = sys.argv[1:]
with layerfs.open_store(root) as store:
    snapshots = store.snapshotter(driver)
    while True:
        with open(asked) as pipe:
            verb, key, parent, target = pipe.read().split()
        said = "0"
        try:
            if verb == "mount":
                for mount in snapshots.prepare(key, parent):
                    mount.perform(target)
            elif verb == "unmount":
                release(target.encode())
                snapshots.remove(key)
        except Exception as error:
            said = f"1 {error}"
        with open(answered, "w") as pipe:
            pipe.write(said + "\\n")
        if verb == "end":
            break
"""


class Library(SnapshotSubject):
    """`layerfs.open_store()` with one driver, in a program that stays."""

    def __init__(self, driver: str, cache: Path) -> None:
        super().__init__(driver, cache)
        self.name = f"library-{driver}"
        self.about = f"prepare and Mount.perform() in a running program, driver {driver}"
        self.home = cache / f"library-{driver}"
        self.root = self.home / "store"
        self.program: subprocess.Popen[bytes] | None = None

    def prepare(self, layers: BuiltTree, site: Site, case: Case) -> None:
        """Commit the layers of a tree, and start the program, once."""
        super().prepare(layers, site, case)
        if self.program is None:
            pipes = [self.home / name for name in ("asked", "answered")]
            for pipe in pipes:
                os.mkfifo(pipe)
            words = [sys.executable, "-c", PROGRAM, str(self.root), self.driver, *map(str, pipes)]
            self.program = subprocess.Popen(words)
            subprocess.run(self._ask("nothing", "-", "-", "-"), check=True)

    def _ask(self, *words: str) -> list[str]:
        asked, answered = (shlex.quote(str(self.home / name)) for name in ("asked", "answered"))
        lines = [
            f"echo {shlex.join(words)} >{asked}",
            f"read status said <{answered}",
            '[ "$status" = 0 ] || { echo "$said" >&2; exit 1; }',
        ]
        return ["/bin/sh", "-c", "\n".join(lines)]

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Prepare and mount."""
        return self._ask("mount", site.home.name, top_of(layers), str(site.mnt))

    def unmount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        """Unmount, and remove the snapshot."""
        return self._ask("unmount", site.home.name, "-", str(site.mnt))

    def finish(self) -> None:
        """End the program, and take the store away."""
        program, self.program = self.program, None
        if program is not None:
            subprocess.run(self._ask("end", "-", "-", "-"), check=False)
            until(lambda: program.poll() is not None)
        super().finish()
