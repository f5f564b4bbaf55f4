"""How an image is run."""

from pathlib import Path

import pytest

from layerfs.errors import LayerfsError
from layerfs.oci.below import UnionBelow
from layerfs.oci.running import Changes, read_file, running
from tests.oci.tars import END, apply, directory, file, symlink

PASSWD = b"me:x:7:8::/home/me:/bin/sh\n"


@pytest.fixture
def tree(scratch: Path) -> Path:
    """A small image."""
    apply(directory(b"etc") + file(b"etc/passwd", PASSWD) + END, scratch / "t")
    return scratch / "t"


def test_config_is_honoured_and_the_caller_has_the_last_word(tree: Path) -> None:
    config = {"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=1", "PATH=/p", "bad"], "WorkingDir": "w", "User": "me"}
    with UnionBelow([bytes(tree)]) as view:
        found = running(config, view, Changes())
        assert (found.command, found.directory, found.user.uid) == (("/e", "c"), "/w", 7)
        assert set(found.environment) == {"PATH=/p", "HOME=/home/me", "A=1"}
        assert running(config, view, Changes(command=("x",))).command == ("/e", "x")
        changed = Changes(("x",), "", ("A=2",), "/d", "0")
        found = running(config, view, changed)
        assert (found.command, found.directory, found.user.uid) == (("x",), "/d", 0)
        assert "A=2" in found.environment


@pytest.mark.parametrize("config", [{}, {"Cmd": "x"}, {"Cmd": [1]}, {"Cmd": ["a\0"]}, {"Cmd": ["x"], "User": "you"}])
def test_what_cannot_be_run_is_an_error(config: dict[str, object], tree: Path) -> None:
    with UnionBelow([bytes(tree)]) as view, pytest.raises(LayerfsError):
        running(config, view, Changes())


def test_users_are_read_without_leaving_the_image(scratch: Path) -> None:
    """A symlink to a FIFO of the host kept whoever read it."""
    (scratch / "host").write_bytes(b"secret")
    entries = [symlink(b"etc", b"/real"), directory(b"real"), symlink(b"real/passwd", bytes(scratch / "host")),
               symlink(b"real/group", b"../real/../../group"), file(b"group", b"g"), symlink(b"loop",
               b"loop")]  # fmt: skip
    apply(b"".join(entries) + END, scratch / "t")
    with UnionBelow([bytes(scratch / "t")]) as view:
        assert read_file(view, b"etc/passwd") is None
        assert read_file(view, b"etc/group") == b"g"
        assert read_file(view, b"loop") is None
