"""The tables of the ledger and their migrations: each entry of `MIGRATIONS` is one step forward and never changes.

`PRAGMA user_version` counts the steps that a ledger has behind it. A snapshot keeps its `id` for life, also when its
key becomes a name, so children refer to the id and a commit changes one row. The expression of an index stays as it is.
"""

from typing import Final

APPLICATION: Final = 0x6C617966  # "layf", for file(1)

TAIL: Final = "substr(key, 1 + length(rtrim(key, replace(key, '/', ''))))"  # what is behind the last slash of a key

MIGRATIONS: Final = (
    (
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "INSERT INTO facts VALUES ('next', 1)",
        """CREATE TABLE snapshots (
            id INTEGER PRIMARY KEY,
            driver TEXT NOT NULL,
            key TEXT NOT NULL,
            kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
            parent INTEGER REFERENCES snapshots (id),
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            size INTEGER NOT NULL DEFAULT 0,
            inodes INTEGER NOT NULL DEFAULT 0,
            sealed INTEGER NOT NULL DEFAULT 1
        )""",
        "CREATE UNIQUE INDEX snapshots_by_key ON snapshots (driver, key)",
        "CREATE INDEX snapshots_by_parent ON snapshots (parent)",
        "CREATE INDEX snapshots_unsealed ON snapshots (driver) WHERE sealed = 0",
        """CREATE TABLE labels (
            snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (snapshot, name)
        ) WITHOUT ROWID""",
        "CREATE INDEX labels_by_value ON labels (name, value)",
        """CREATE TABLE records (
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            digest TEXT NOT NULL,
            labels TEXT NOT NULL,
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            PRIMARY KEY (kind, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE holds (
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            hold TEXT NOT NULL,
            PRIMARY KEY (kind, name, hold),
            FOREIGN KEY (kind, name) REFERENCES records (kind, name) ON DELETE CASCADE
        ) WITHOUT ROWID""",
        "CREATE INDEX holds_by_hold ON holds (hold)",
    ),
    (  # several committed snapshots may share a directory, which the number `place` names
        "ALTER TABLE snapshots ADD COLUMN place INTEGER NOT NULL DEFAULT 0",
        "UPDATE snapshots SET place = id",
        "CREATE INDEX snapshots_by_place ON snapshots (place)",
        f"CREATE INDEX snapshots_by_tail ON snapshots (driver, {TAIL})",
    ),
)
