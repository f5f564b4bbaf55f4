"""`layerfs xar ls`: what is in an image, for people and for programs."""

import json
import os
import stat
from pathlib import Path

import pytest

from layerfs.pysquashfs import FileSpec, write_image
from tests.cli.xars import place as place
from tests.cli.xars import run
from tests.xar.forgery import Forgery, directory, file

TIME = 1_500_000_000  # s


def ls(*words: str | Path, cwd: Path) -> str:
    """What is printed."""
    done = run("ls", *words, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_directory_is_listed_by_its_names_or_with_all_below(place: Path) -> None:
    assert ls("app.xar", cwd=place) == "bin\ntext\n"
    assert ls("app.xar", "/bin/", cwd=place) == ls("app.xar", "bin", cwd=place) == "app\n"
    assert ls("app.xar", "bin/app", cwd=place) == "bin/app\n"
    assert ls("-R", "app.xar", cwd=place) == "bin\nbin/app\ntext\n"


@pytest.fixture
def varied(scratch: Path) -> Path:
    """An image with a file, a link, a device and a directory."""
    write_image(
        scratch / "image",
        [
            FileSpec(b"d", stat.S_IFDIR | 0o750, 1, 2, TIME),
            FileSpec(b"f", stat.S_IFREG | 0o4755, 1000, 1000, TIME, data=b"12345"),
            FileSpec(b"l", stat.S_IFLNK | 0o777, mtime=TIME, target=b"d/x"),
            FileSpec(b"n", stat.S_IFCHR | 0o600, mtime=TIME, rdev=os.makedev(1, 3)),
        ],
    )
    return scratch


def test_long_lines_say_mode_owner_size_time_and_target(varied: Path) -> None:
    lines = [line.split() for line in ls("-l", "image", cwd=varied).splitlines()]
    assert [line[0] for line in lines] == ["drwxr-x---", "-rwsr-xr-x", "lrwxrwxrwx", "crw-------"]
    assert [line[2:5] for line in lines][:3] == [["1", "2", "3"], ["1000", "1000", "5"], ["0", "0", "3"]]
    assert lines[2][-3:] == ["l", "->", "d/x"]
    assert lines[3][4:6] == ["1,", "3"]


def test_json_says_the_same(varied: Path) -> None:
    found = json.loads(ls("--json", "image", cwd=varied))
    assert [(each["path"], each["type"]) for each in found] == [
        ("d", "directory"),
        ("f", "file"),
        ("l", "symlink"),
        ("n", "character device"),
    ]
    assert found[1] == {
        "path": "f", "type": "file", "mode": "4755", "uid": 1000, "gid": 1000, "size": 5, "mtime": TIME, "links": 1,
        "inode": found[1]["inode"], "target": None, "rdev": None,
    }  # fmt: skip
    assert (found[2]["target"], found[3]["rdev"]) == ("d/x", [1, 3])


def test_an_image_inside_a_file_is_listed_from_its_offset(varied: Path) -> None:
    (varied / "part").write_bytes(bytes(777) + (varied / "image").read_bytes())
    assert ls("part", "--offset", "777", cwd=varied) == "d\nf\nl\nn\n"
    for verb in ("info", "verify"):
        assert run(verb, "part", "--offset", "777", cwd=varied).returncode == 0
    assert run("extract", "part", "--offset", "777", "-C", "out", cwd=varied).returncode == 0
    done = run("ls", "part", "--offset", "778", cwd=varied)
    assert (done.returncode, "has no squashfs image at byte 778" in done.stderr) == (1, True)
    assert run("ls", "part", "--offset", "x", cwd=varied).returncode == 2


def test_what_is_not_there_is_said(place: Path) -> None:
    for path in ("none", "text/none"):
        done = run("ls", "app.xar", path, cwd=place)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"layerfs: no such path in the image: {path} (hint: " in done.stderr


def test_names_cannot_speak_to_the_terminal(scratch: Path) -> None:
    names = (b"\x1b]0;owned\x07", b"new\nline")
    write_image(scratch / "image", [FileSpec(name, stat.S_IFREG, mtime=TIME) for name in names])
    assert ls("image", cwd=scratch) == "\\x1b]0;owned\\x07\nnew\\nline\n"


def test_a_damaged_inode_costs_its_own_line(scratch: Path) -> None:
    forgery = Forgery(scratch / "image", [directory(b""), file(b"bad"), file(b"good")])
    forgery.put(forgery.inode(b"bad") + 4, "<H", 99)
    done = run("ls", "-l", "image", cwd=scratch)
    assert done.returncode == 1
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["bad", "good"]
    assert done.stdout.startswith("-?????????")
    assert done.stderr == "layerfs: bad cannot be read\n"
