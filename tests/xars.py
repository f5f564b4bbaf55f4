"""XARs for tests: an image by mksquashfs behind a header of ours, and who mounts and runs them."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerfs.xar.header_writer import make_header
from tests.host import BIN, Person
from tests.waiting import PATIENCE, wait_until

UUID = "8f583eae"


def make_xar(
    path: Path,
    files: Mapping[str, str],
    *,
    target: str | None = "run",
    uuid: str = UUID,
    depends: Sequence[str] = (),
    root: Path | None = None,
) -> Path:
    """Write a XAR with some files (`#!` executable) in place of what was there, by a rename."""
    tree, image, draft = (path.with_name(f"{path.name}.{kind}") for kind in ("tree", "image", "draft"))
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755 if text.startswith("#!") else 0o644)
    command = ["mksquashfs", str(tree), str(image), "-noappend", "-quiet", "-no-progress", "-processors", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    mount_root = None if root is None else str(root)
    header = make_header(uuid=uuid, version="1", target=target, dependencies=depends, mount_root=mount_root)
    draft.write_bytes(header + image.read_bytes())
    draft.chmod(0o755)
    os.replace(draft, path)
    image.unlink()
    subprocess.run(["rm", "-r", tree], check=True, timeout=PATIENCE)
    return path


@dataclass(frozen=True)
class Desk:
    """A directory with XARs in it that are mounted below `root`, by whoever sits there."""

    base: Path
    person: Person | None = None

    @property
    def root(self) -> Path:
        return self.base / "shared"

    def xar(self, name: str, files: Mapping[str, str], **words: Any) -> Path:
        """Write a XAR that is mounted below `root`."""
        return make_xar(self.base / name, files, root=self.root, **words)

    def command(self, *words: str | Path, program: str = "layerfs") -> list[str]:
        command = [str(BIN / program), *map(str, words)]
        return self.person.command(command) if self.person else command

    @property
    def around(self) -> dict[str, Any]:
        """What every process is started with."""
        login = self.person.environment() if self.person else dict(os.environ)
        return {"cwd": self.base, "env": login | {"PATH": f"{BIN}:{login['PATH']}"}}

    def run(
        self, *words: str | Path, program: str = "layerfs", stdin: str = "", env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program of ours and return how it ended."""
        around = self.around
        return subprocess.run(
            self.command(*words, program=program),
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            cwd=around["cwd"],
            env=around["env"] | dict(env or {}),
        )

    def do(self, *words: str | Path, program: str = "layerfs", env: Mapping[str, str] | None = None) -> str:
        """Run it to success and return what it printed."""
        done = self.run(*words, program=program, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @contextmanager
    def started(self, *words: str | Path, program: str = "layerfs") -> Iterator["subprocess.Popen[str]"]:
        """Run it with pipes while the context lasts; its stdin is closed at the end."""
        command = self.command(*words, program=program)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **self.around) as process:
            yield process

    def mount(self, xar: Path, *words: str) -> Path:
        """Mount a XAR and return where."""
        return Path(self.do("xar", "mount", xar, *words).removesuffix("\n"))

    def read(self, path: Path) -> str:
        """Return a file's text as this person sees it: nobody else may enter their mounts."""
        command = self.person.command(["cat", path]) if self.person else ["cat", str(path)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE).stdout

    def server(self, mountpoint: Path) -> int:
        """Return the process that serves a mount."""
        return next(pid for _, where, pid in self._servers() if where == mountpoint)

    def _servers(self) -> list[tuple[Path, Path, int]]:
        """Return the registry's files on mounts below `root`, with the mountpoint and the process that serves it."""
        place = self.person.home / "runtime/layerfs" if self.person else Path("/run/layerfs")
        found = []
        for path in place.glob("*.json"):
            with suppress(FileNotFoundError):  # another one's, that ends at this moment
                entry = json.loads(path.read_text())
                found.append((path, Path(entry["mountpoint"]), int(entry["pid"])))
        return [entry for entry in found if self.root in entry[1].parents]

    def close(self) -> None:
        """Kill the servers: to end in order they would first have to import what they need to serve."""
        for path, _, pid in self._servers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not Path(f"/proc/{pid}/exe").exists())  # type: ignore[misc]
            path.unlink(missing_ok=True)

    def mounts(self) -> list[Path]:
        """Return what is mounted below `root`."""
        with open("/proc/self/mountinfo") as table:
            points = [Path(line.split()[4]) for line in table]
        return [point for point in points if self.root in point.parents]


@contextmanager
def a_desk(base: Path, person: Person | None) -> Iterator[Desk]:
    """Set up a desk for root, or for somebody else, and end what was started there."""
    desk = Desk(base, person)
    base.mkdir(parents=True)
    desk.root.mkdir()
    desk.root.chmod(0o1777)
    if person is not None:
        os.chown(base, person.uid, person.gid)
    try:
        yield desk
    finally:
        desk.close()
