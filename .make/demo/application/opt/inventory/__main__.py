"""The demo's application: an inventory of the system it runs in, kept in SQLite and served over HTTP.

It reads what the base layer brought, runs on what the second layer brought, and changes both: a file of the base is
edited, one deleted, a directory renamed, and a database is made. `--look` changes nothing.
"""

import json
import sqlite3
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

STATUS = Path("/var/lib/dpkg/status")
DATABASE = Path("/var/lib/inventory/packages.db")
MOTD = Path("/etc/motd")


def packages() -> Iterator[tuple[str, str, int]]:
    """Name, version and installed size [KiB] of every Debian package."""
    for paragraph in STATUS.read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            yield fields["Package"], fields["Version"], int(fields.get("Installed-Size", "0"))


def store() -> sqlite3.Connection:
    """The database, made anew, with a write-ahead log (shared memory mapped through the mount)."""
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(DATABASE)
    database.execute("PRAGMA journal_mode = WAL")
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS package (name TEXT PRIMARY KEY, version TEXT, size INTEGER)")
        database.executemany("INSERT OR REPLACE INTO package VALUES (?, ?, ?)", packages())
    return database


def largest(database: sqlite3.Connection) -> list[dict[str, object]]:
    """The three largest packages."""
    rows = database.execute("SELECT name, version, size FROM package ORDER BY size DESC LIMIT 3")
    return [{"name": name, "version": version, "KiB": size} for name, version, size in rows]


class Handler(BaseHTTPRequestHandler):
    """GET anything: the largest packages as JSON."""

    def do_GET(self) -> None:
        with closing(sqlite3.connect(DATABASE)) as database:
            body = json.dumps(largest(database)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the answer is printed."""


def ask_ourselves() -> list[dict[str, object]]:
    """Serve one request on a free port and be the client that makes it."""
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{server.server_port}/", timeout=10) as answer:
            rows: list[dict[str, object]] = json.load(answer)
        thread.join()
    return rows


def change_the_system(count: int) -> None:
    """What an administrator might do to layers that cannot be written."""
    with MOTD.open("a") as motd:
        motd.write(f"This system holds {count} packages.\n")
    Path("/etc/issue.net").unlink()
    Path("/usr/share/common-licenses").rename("/usr/share/licenses")


def main() -> None:
    count = sum(1 for _ in packages())
    print(f"inventory: Python {sys.version.split()[0]} from {sys.executable} counts {count} packages")
    if "--look" in sys.argv:
        return
    with closing(store()) as database:
        (checked,) = database.execute("PRAGMA integrity_check").fetchone()
        print(f"inventory: database {checked}, {DATABASE.stat().st_size} bytes")
        for row in ask_ourselves():
            print(f"inventory: over HTTP: {row['name']} {row['version']}, {row['KiB']} KiB")
    change_the_system(count)
    print("inventory: /etc/motd edited, /etc/issue.net deleted, /usr/share/common-licenses renamed to licenses")


if __name__ == "__main__":
    main()
