"""The tree `database`: a PostgreSQL cluster with the tables of pgbench, whole in the lowest layer.

It belongs to the user nobody, since PostgreSQL does not run as root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.model import BenchError, BuiltTree
from benchmarks.trees import lowest

INSTALLED = Path("/usr/lib/postgresql")
USER = 65534  # nobody
AS_USER = ("/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--")
SCALE = 5  # of pgbench: 500,000 accounts, 75 MB
PATIENCE = 60.0  # seconds for a server to start or to end


def build(layers: int, cache: Path) -> BuiltTree:
    """Build or find the tree."""
    return lowest.build("database", layers, cache, make)


def programs() -> Path:
    """Return the directory of the newest PostgreSQL's programs."""
    found = sorted(INSTALLED.glob("*/bin/pgbench"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise BenchError("PostgreSQL is not installed (Debian package postgresql)")
    return found[-1].parent


def pgbench(sockets: Path, *options: str) -> list[str]:
    """Return the words of pgbench for a server that listens in a directory."""
    return [*AS_USER, str(programs() / "pgbench"), "-h", str(sockets), "-U", "bench", *options, "postgres"]


def make(base: Path) -> None:
    """Make a cluster and fill the tables."""
    fresh = base.with_name(f".{os.getpid()}")
    data = fresh / "data"
    try:
        data.mkdir(parents=True)
        os.chown(data, USER, USER)
        call([*AS_USER, str(programs() / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust", "--locale=C"])
        with running(data) as sockets:
            call(pgbench(sockets, "-i", "-q", "-s", str(SCALE)))
        fresh.rename(base)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def running(data: Path) -> Iterator[Path]:
    """Have a server run on a cluster; yield the directory of its socket. It has ended afterwards."""
    postgres = str(programs() / "postgres")
    with tempfile.TemporaryDirectory(prefix="bench-pg-") as place, tempfile.TemporaryFile() as said:
        os.chown(place, USER, USER)
        words = [*AS_USER, postgres, "-D", str(data), "-k", place, "-c", "listen_addresses="]
        server = subprocess.Popen(words, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            await_server(server, Path(place))
            yield Path(place)
        except BenchError as error:
            said.seek(0)
            raise BenchError(f"{error}: {said.read().decode(errors='replace').strip()[-300:]}") from error
        finally:
            stop(server)


def await_server(server: subprocess.Popen[bytes], sockets: Path) -> None:
    """Wait until a server takes connections."""
    deadline = time.monotonic() + PATIENCE
    ready = [str(programs() / "pg_isready"), "-q", "-h", str(sockets)]
    while subprocess.run(ready).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise BenchError("PostgreSQL did not start")
        time.sleep(0.05)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server: in good order, and if that takes too long, at once."""
    server.send_signal(signal.SIGINT)  # fast shutdown
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)  # immediate shutdown
        server.wait(PATIENCE)


def call(argv: Sequence[str]) -> None:
    """Run a program of PostgreSQL; its last words end up in the error."""
    done = subprocess.run(argv, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{Path(argv[len(AS_USER)]).name}: {done.stderr.strip()[-300:]}")
