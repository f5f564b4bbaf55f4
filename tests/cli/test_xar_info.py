"""`layerfs xar info`: what a package says of itself, for people and for programs."""

import hashlib
import json
from pathlib import Path

import xxhash

from tests.cli.xars import EPOCH, run
from tests.cli.xars import place as place
from tests.xar.readers import lines_of, xar


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
