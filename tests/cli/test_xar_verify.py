"""`layerfs xar verify`: whole or not, and where not."""

from pathlib import Path

from tests.cli.xars import place as place
from tests.cli.xars import run
from tests.xar.forgery import Forgery, directory, file
from tests.xar.readers import lines_of, xar


def test_verify_says_ok_or_what_is_wrong_where(place: Path) -> None:
    forgery = Forgery(place / "bad", [directory(b""), file(b"tall"), file(b"wide")])
    forgery.put(forgery.name(b"wide") - 8, "<H", 8000)
    image = (place / "app.xar").read_bytes()[4096:]
    (place / "odd.xar").write_bytes(xar(lines_of(VERSION=None, XAREXEC_TARGET="bin/app"), image=image))
    done = run("verify", "app.xar", "bad", "odd.xar", cwd=place)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "app.xar: OK (4 inodes, 1 blocks, 15 bytes of data)",
        "odd.xar: OK (4 inodes, 1 blocks, 15 bytes of data)",
    ]
    assert done.stderr.splitlines() == [
        "layerfs: bad: /wide: inode 0x1f40: a reference points behind the end of its metadata block",
        "odd.xar: warning: line 6: XarParser refuses it: VERSION is missing",
    ]
    assert run("verify", "app.xar", "odd.xar", cwd=place).returncode == 0


def test_verify_goes_on_after_what_is_no_package(place: Path) -> None:
    done = run("verify", "absent", "tree", "tree/text", "app.xar", cwd=place)
    assert done.returncode == 1
    assert done.stdout.startswith("app.xar: OK")
    assert done.stderr.splitlines() == [
        "layerfs: absent: No such file or directory",
        "layerfs: tree is not a regular file (hint: name a squashfs image or a XAR)",
        "layerfs: tree/text is neither a squashfs image nor a XAR",
    ]
