"""A tree with every kind of file, the graph in JSON whose modules own it, and what a tree is when it is looked at."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from layerfs.plan.sources import SourceSpec

GRAPH: dict[str, Any] = {
    "name": "house",
    "root": "src",
    "modules": [
        {"name": "app", "version": "1", "paths": ["bin", "share/app"], "probability": 0.4, "depends": ["lib"]},
        {"name": "lib", "version": "7", "paths": ["lib"], "probability": 0.02, "rebuilds": False},
        {"name": "words", "paths": ["./share//words"], "probability": 0.1},
    ],
}


def make_house(base: Path) -> Path:
    """Write the tree and its graph; return where the graph is. As root there are a device and owners, too."""
    src = base / "src"
    for name in ("bin", "lib/deep/er", "share/app", "etc/empty"):
        (src / name).mkdir(parents=True)
    (src / "bin/app").write_bytes(b"#!/bin/sh\n" + b"app" * 40_000)
    (src / "bin/app").chmod(0o4755)
    (src / "bin/link").symlink_to("../lib/missing")
    (src / "lib/one").write_bytes(os.urandom(70_000))
    (src / "lib/deep/er/none").write_bytes(b"")
    os.link(src / "lib/one", src / "lib/deep/two")
    os.mkfifo(src / "share/app/pipe", 0o600)
    (src / "share/app/words\n\xff").write_text("odd name")
    (src / "share/words").write_text("words")
    (src / "etc/config").write_text("nobody's")
    (src / "etc/empty").chmod(0o700)
    if os.geteuid() == 0:
        os.mknod(src / "share/app/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.chown(src / "etc/config", 12, 34)
    os.setxattr(src / "etc/config", "user.note", b"kept")
    for number, path in enumerate(sorted(src.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, (1_000_000_000 + number) * 10**9), follow_symlinks=False)
    graph = base / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    return graph


def words_of(graph: Path) -> SourceSpec:
    return SourceSpec("json", str(graph))


def seen(root: Path) -> dict[str, Any]:
    """Everything in a tree that a layer keeps, times to the second; names of one file have the first as theirs."""
    found: dict[str, Any] = {}
    first: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        st = path.lstat()
        name = str(path.relative_to(root))
        same = first.setdefault(st.st_ino, name) if st.st_nlink > 1 and not path.is_dir() else name
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(st.st_mode) else ""
        target = os.readlink(path) if path.is_symlink() else ""
        xattrs = {
            key: os.getxattr(path, key) for key in os.listxattr(path, follow_symlinks=False) if key[:5] == "user."
        }
        found[name] = (
            oct(st.st_mode), st.st_uid, st.st_gid, int(st.st_mtime), st.st_rdev, same, content, target, xattrs,
        )  # fmt: skip
    return found
