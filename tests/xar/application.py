"""A program with what it needs in a tree, and the XAR that is built of it."""

import os
from dataclasses import replace
from pathlib import Path

from layerfs.xar.builder import Built, Recipe, build

EPOCH = 1_500_000_000


def application(place: Path) -> Path:
    """A tree with a program in it, all of one age."""
    tree = place / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "lib/sub").mkdir(parents=True)
    (tree / "bin/app").write_text("#!/bin/sh\necho hello\n")
    (tree / "bin/app").chmod(0o755)
    (tree / "bin/also").symlink_to("../lib/../bin/app")
    os.link(tree / "bin/app", tree / "bin/hard")
    (tree / "bin/out").symlink_to("/bin/sh")
    (tree / "bin/up").symlink_to("../../x")
    (tree / "bin/round").symlink_to("round")
    (tree / "bin/gone").symlink_to("nowhere")
    (tree / "lib/data").write_bytes(os.urandom(600_000))
    (tree / "lib/sub/text").write_text("text\n" * 1000)
    for path in [*tree.rglob("*"), tree]:
        os.utime(path, (0, EPOCH), follow_symlinks=False)
    return tree


def recipe(tree: Path, **changes: object) -> Recipe:
    plain = Recipe((os.fsencode(tree),), os.fsencode(tree.parent / "app.xar"))
    return replace(plain, **changes)  # type: ignore[arg-type]


def make(tree: Path, **changes: object) -> tuple[Built, bytes]:
    wanted = recipe(tree, **changes)
    built = build(wanted)
    return built, Path(os.fsdecode(wanted.output)).read_bytes()
