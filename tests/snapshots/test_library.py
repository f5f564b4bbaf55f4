"""A store as a program uses it; what README.md and docs/library.md show works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound
from layerfs.mounts.sandbox import environment
from layerfs.snapshots.library import default_root, open_store
from tests.host import PROJECT, Person, require


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (PROJECT / page).read_text(), re.MULTILINE | re.DOTALL)


(EXAMPLE,) = blocks("README.md", "python")
(ASYNC_EXAMPLE,) = blocks("docs/library.md", "python")
SAID = re.findall(r"^It prints:\n\n```\n(.*?)^```", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]


def test_example_has_twenty_lines_or_so_and_prints_what_the_page_says_as_root(scratch: Path) -> None:
    require("root", "kernel overlay")
    assert len(EXAMPLE.splitlines()) <= 24
    done = subprocess.run([sys.executable, "-c", EXAMPLE], cwd=scratch, capture_output=True, text=True, check=True)
    assert done.stdout == SAID


def test_example_prints_the_same_for_a_user_without_root(person: Person) -> None:
    require("fuse")
    done = person.run([sys.executable, "-c", EXAMPLE])
    assert done.stdout == SAID


def test_async_example_runs(scratch: Path) -> None:
    require("root")
    done = subprocess.run(
        [sys.executable, "-c", ASYNC_EXAMPLE], cwd=scratch, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("(Mount(")


def test_root_is_the_users_own_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYERFS_ROOT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == b"/var/lib/layerfs"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_root() == b"/home/somebody/.local/share/layerfs"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_root() == b"/data/layerfs"
    monkeypatch.setenv("LAYERFS_ROOT", "/elsewhere")
    assert default_root() == b"/elsewhere"
    monkeypatch.setenv("LAYERFS_TREE", "/merged")
    assert default_root() == b"/elsewhere"


def test_the_merged_tree_of_layerfs_run_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `layerfs run` LAYERFS_ROOT names the tree: a store would have been made in its root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    for tree in (b"/merged", b"/"):
        for name, value in environment(tree, {}).items():
            monkeypatch.setenv(os.fsdecode(name), os.fsdecode(value))
        assert default_root() == b"/data/layerfs"


def test_new_store_is_closed_and_one_that_was_there_is_not_changed(scratch: Path) -> None:
    (scratch / "empty").mkdir()
    (scratch / "used").mkdir(mode=0o755)
    (scratch / "used/file").touch()
    for name in ("new", "empty", "used"):
        with open_store(scratch / name) as store:
            assert store.root == os.fsencode(scratch / name)
    modes = [oct((scratch / name).stat().st_mode & 0o777) for name in ("new", "empty", "used")]
    assert modes == ["0o700", "0o700", "0o755"]
    made = [path for path in (scratch / "used").iterdir() if path.name != "file"]
    assert {oct(path.stat().st_mode & 0o077) for path in made} == {"0o0"}


def test_store_where_others_may_write_is_refused(scratch: Path) -> None:
    (scratch / "open").mkdir()
    (scratch / "open").chmod(0o777)
    with pytest.raises(InvalidArgument, match="is open to others"):
        open_store(scratch / "open")


def test_store_of_another_user_is_named_in_what_is_said(scratch: Path, person: Person) -> None:
    """It said "/proc/self/fd/4: Permission denied"."""
    require("root")
    with open_store(scratch / "store"):
        pass
    scratch.chmod(0o755)
    words = [sys.executable, "-m", "layerfs.cli.main", "snapshot", "ls", "--root", str(scratch / "store")]
    done = person.run(words, check=False)
    assert done.stderr == f"layerfs: the store {scratch / 'store'} cannot be opened: Permission denied\n"


def test_drivers_say_whether_they_can_run(scratch: Path) -> None:
    require("root", "kernel overlay", "fuse")
    with open_store(scratch / "store") as store:
        found = store.drivers()
        assert (found["overlay"], found["fuse"]) == ("", "")
        assert "is not on btrfs" in found["btrfs"]
        assert store.snapshotter().name == "overlay"
        with pytest.raises(NotFound):
            store.snapshotter("nonesuch")
