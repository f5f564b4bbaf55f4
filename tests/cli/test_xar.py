"""`layerfs xar build`, `info`, `verify` and `extract`: words in, words out."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import xxhash

from layerfs.cli import xar as verb
from tests.host import BIN
from tests.xar.forgery import Forgery, directory, file
from tests.xar.readers import lines_of, xar

TIMEOUT = 30  # s
EPOCH = "1514764800"


def run(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(BIN / "layerfs"), "xar", *map(str, words)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "COLUMNS": "80"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=cwd, env=environment
    )


@pytest.fixture
def place(scratch: Path) -> Path:
    """A directory with a tree and the XAR of it."""
    (scratch / "tree/bin").mkdir(parents=True)
    (scratch / "tree/bin/app").write_text("#!/bin/sh\n")
    (scratch / "tree/bin/app").chmod(0o755)
    (scratch / "tree/text").write_text("text\n")
    done = run("build", "tree", "-o", "app.xar", "--target", "bin/app", "--depends", "b.xar", "c.xar", cwd=scratch)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("app.xar: 4 entries, 8.0 KiB, UUID ")
    assert done.stdout.endswith(f", VERSION {EPOCH}\n")
    return scratch


def test_help_names_every_part_and_each_has_its_own(scratch: Path) -> None:
    shown = run("--help", cwd=scratch).stdout
    for part in verb.PARTS:
        assert f"    {part}" in shown
        assert f"usage: layerfs xar {part}" in run(part, "--help", cwd=scratch).stdout


def test_only_the_part_that_is_asked_for_is_imported(place: Path) -> None:
    program = "import sys; from layerfs.cli.main import main; main(['xar', 'verify', 'app.xar']); print(*sys.modules)"
    words = [str(BIN / "python"), "-c", program]
    loaded = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=place, timeout=TIMEOUT
    ).stdout.split()
    assert "layerfs.cli.xar_verify" in loaded
    assert {f"layerfs.cli.xar_{part}" for part in verb.PARTS if part != "verify"}.isdisjoint(loaded)
    assert {"rich", "trio", "layerfs.pysquashfs.writer"}.isdisjoint(loaded)


def test_options_may_stand_between_the_inputs(place: Path) -> None:
    done = run("build", "tree/text", "-o", "two.xar", "--compression", "none", "tree/bin", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("two.xar: 4 entries, ")


def test_info_shows_header_image_and_digests(place: Path) -> None:
    shown = dict(line.split(maxsplit=1) for line in run("info", "app.xar", cwd=place).stdout.splitlines() if line)
    data = (place / "app.xar").read_bytes()
    assert (shown["file"], shown["kind"], shown["size"]) == ("app.xar", "xar", "8.0 KiB")
    assert (shown["version"], shown["target"], shown["depends"]) == (EPOCH, "bin/app", "b.xar c.xar")
    assert shown["accepted"] == "by  xarexec_fuse, XarParser"
    assert shown["inodes"] == "4: 2 files, 2 directories, 0 symlinks, 0 others; 4 names"
    assert shown["compressor"] == "zstd, blocks of 256.0 KiB"
    assert shown["sha256"] == hashlib.sha256(data).hexdigest()
    assert shown["xxh3-128"] == xxhash.xxh3_128_hexdigest(data)


def test_info_as_json_says_the_same(place: Path) -> None:
    known = json.loads(run("info", "--json", "app.xar", cwd=place).stdout)
    data = (place / "app.xar").read_bytes()
    assert known["digest"] == {
        "xxh3_128": xxhash.xxh3_128_hexdigest(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert (known["kind"], known["size"]) == ("xar", len(data))
    header = known["header"]
    assert header.pop("uuid") == xxhash.xxh3_128_hexdigest(data[4096:])[:8]
    assert header == {
        "shebang": "#!/usr/bin/env xarexec_fuse",
        "offset": 4096,
        "version": EPOCH,
        "dependencies": ["b.xar", "c.xar"],
        "target": "bin/app",
        "mount_root": None,
        "trampolines": [],
        "extra": {},
        "accepted_by": ["xarexec_fuse", "XarParser"],
        "remarks": [],
    }
    image = known["image"]
    assert (image["compressor"], image["block_size"], image["data_size"]) == ("zstd", 262144, 15)
    assert (image["files"], image["directories"], image["names"], image["inodes"]) == (2, 2, 4, 4)


def test_info_of_a_bare_image_and_of_what_one_reader_refuses(place: Path) -> None:
    image = (place / "app.xar").read_bytes()[4096:]
    (place / "bare").write_bytes(image)
    (place / "odd.xar").write_bytes(xar(lines_of(VERSION=None, COLOUR="red"), image=image))
    known = json.loads(run("info", "--json", "bare", cwd=place).stdout)
    assert (known["kind"], known["header"]) == ("squashfs", None)
    shown = run("info", "odd.xar", cwd=place).stdout
    assert "remark       line 7: XarParser refuses it: VERSION is missing\n" in shown
    assert "COLOUR       red\n" in shown


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


REFUSED: dict[str, tuple[list[str], str]] = {
    "no such tree": (["build", "none", "-o", "x.xar"], "none: No such file or directory"),
    "no such output": (["build", "tree", "-o", "no/x.xar"], "no such directory: "),
    "output in the input": (["build", "tree", "-o", "tree/x.xar"], "lies in the input"),
    "no such target": (["build", "tree", "-o", "x.xar", "--target", "app"], "the target app is not in the package"),
    "a bad level": (["build", "tree", "-o", "x.xar", "--level", "99"], "zstd has levels 1 to 22, not 99"),
    "a bad uuid": (["build", "tree", "-o", "x.xar", "--uuid", "xyz"], "expected UUID to be 8 hex digits"),
    "info of nothing": (["info", "none"], "none: No such file or directory"),
    "info of text": (["info", "tree/text"], "tree/text is neither a squashfs image nor a XAR"),
    "info of a directory": (["info", "tree"], "tree is not a regular file"),
    "info of a bad header": (["info", "bad.xar"], "bad.xar: line 3: expected UUID to be 8 hex digits, found"),
    "info of a bad image": (["info", "empty.xar"], "empty.xar: "),
    "extract of text": (["extract", "tree/text", "-C", "out"], "tree/text is neither a squashfs image nor a XAR"),
    "extract of a bad image": (["extract", "empty.xar", "-C", "out"], "empty.xar: "),
    "extract over a tree": (["extract", "app.xar", "-C", "tree"], "tree is not empty (hint: --force replaces what is"),
    "extract nowhere": (["extract", "app.xar", "-C", "no/out"], "no/out: No such file or directory"),
    "extract to a file": (["extract", "app.xar", "-C", "tree/text"], "Not a directory"),
    "extract what is not there": (["extract", "app.xar", "-C", "out", "bin/no"], "no such path in the image: bin/no"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line_and_no_traceback(words: list[str], said: str, place: Path) -> None:
    (place / "bad.xar").write_bytes(xar(lines_of(UUID="me")))
    (place / "empty.xar").write_bytes(xar(lines_of()))
    done = run(*words, cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.startswith("layerfs: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: VERB"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["build"], "required: DIR|FILE, -o/--output"),
        (["build", "tree", "-o", "x", "--block-size", "5K"], "'5K' is no power of two from 4K to 1M"),
        (["build", "tree", "-o", "x", "--block-size", "2M"], "'2M' is no power of two from 4K to 1M"),
        (["build", "tree", "-o", "x", "--version", "one"], "'one' is not a number"),
        (["build", "tree", "-o", "x", "--compression", "lzo"], "invalid choice: 'lzo'"),
        (["extract", "app.xar"], "required: -C/--to"),
        (["verify"], "required: FILE"),
        (["info", "a", "b"], "unrecognized arguments: b"),
    ],
    ids=str,
)
def test_wrong_usage_exits_with_two(words: list[str], said: str, scratch: Path) -> None:
    done = run(*words, cwd=scratch)
    assert done.returncode == 2
    assert said in done.stderr
