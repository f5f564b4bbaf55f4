"""`layerfs xar extract`: what was written and what was not."""

from pathlib import Path

from tests.cli.xars import place as place
from tests.cli.xars import run
from tests.xar.forgery import Forgery, directory, file


def test_extract_says_what_it_wrote_and_what_not(place: Path) -> None:
    done = run("extract", "app.xar", "-C", "out", cwd=place)
    assert done.stdout == "out: 3 entries\n"
    assert (place / "out/text").read_text() == "text\n"
    assert run("extract", "app.xar", "--to", "some", "text", cwd=place).stdout == "some: 1 entries\n"
    forgery = Forgery(place / "bad", [directory(b""), file(b"tall"), file(b"wide")])
    forgery.put(forgery.name(b"wide") - 8, "<H", 8000)
    done = run("extract", "bad", "-C", "part", cwd=place)
    assert (done.returncode, done.stdout) == (1, "part: 1 entries, 1 left out\n")
    assert done.stderr.startswith("layerfs: left out: /wide: inode 0x1f40: ")


def test_names_cannot_speak_to_the_terminal(scratch: Path) -> None:
    (scratch / "tree").mkdir()
    (scratch / "tree/a\x1b[2J\nb").touch()
    (scratch / "tree/a\x1b[2J\nb").chmod(0o600)
    done = run("build", "tree", "-o", "app.xar", cwd=scratch)
    assert done.stderr.count("\n") == 1


def test_many_complaints_are_cut_short(scratch: Path) -> None:
    (scratch / "tree").mkdir()
    for number in range(30):
        (scratch / f"tree/{number:02}").touch(mode=0o600)
    lines = run("build", "tree", "-o", "app.xar", cwd=scratch).stderr.splitlines()
    assert (len(lines), lines[-1]) == (21, "layerfs: and 10 more")
    assert lines[0] == "layerfs: warning: /00: only its owner may use it, who is nobody"
