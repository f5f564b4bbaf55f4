"""SQLite takes POSIX locks, maps its WAL index shared and syncs: with several writers on a database from a lower."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

from .stage import Stage

WRITERS, ROWS = 4, 25
WRITER = """
import sqlite3, sys

NEEDS = ("sqlite3",)
connection = sqlite3.connect(sys.argv[1], timeout=120, isolation_level=None)
for number in range(int(sys.argv[3])):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO rows(writer, number) VALUES (?, ?)", (sys.argv[2], number))
    connection.execute("UPDATE total SET n = n + 1")
    connection.execute("COMMIT")
"""


def database(stage: Stage, journal: str) -> Path:
    lower = stage.layer("lower", {"data": None})
    script = f"""PRAGMA journal_mode={journal};
        CREATE TABLE rows(writer TEXT, number INTEGER, UNIQUE(writer, number)); CREATE TABLE total(n INTEGER);
        INSERT INTO total VALUES (0);"""
    stage.run("sqlite3", lower / "data/rows.db", stdin=script)
    return lower


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_concurrent_writers_of_a_lower_database_lose_no_row(stage: Stage, journal: str) -> None:
    union = stage.mount(database(stage, journal))
    path = union.merged / "data/rows.db"
    writers = [
        subprocess.Popen(
            stage.person.command([sys.executable, "-c", WRITER, path, f"w{number}", str(ROWS)]),
            env=stage.person.environment(),
            stderr=subprocess.PIPE,
        )
        for number in range(WRITERS)
    ]
    try:
        said = [writer.communicate(timeout=PATIENCE)[1] for writer in writers]
        assert (said, [writer.returncode for writer in writers]) == ([b""] * WRITERS, [0] * WRITERS)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    question = "PRAGMA integrity_check; SELECT n FROM total; SELECT count(*) FROM rows; PRAGMA journal_mode;"
    answer = ["ok", str(WRITERS * ROWS), str(WRITERS * ROWS), journal]
    assert stage.run("sqlite3", path, stdin=question).split() == answer
    stage.remount(union)
    assert stage.run("sqlite3", path, stdin=question).split() == answer


def test_vacuum_and_truncating_checkpoint_shrink_the_files(stage: Stage) -> None:
    union = stage.mount(database(stage, "wal"))
    path = union.merged / "data/rows.db"
    script = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO rows SELECT 'w', i FROM n;
        DELETE FROM rows WHERE number > 10; VACUUM; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA integrity_check;"""
    assert stage.run("sqlite3", path, stdin=script).split() == ["0|0|0", "ok"]
    assert stage.run("stat", "-c", "%s", path, f"{path}").split()[0] < "50000"
    stage.remount(union)
    assert stage.run("sqlite3", path, stdin="SELECT count(*) FROM rows;").split() == ["10"]
