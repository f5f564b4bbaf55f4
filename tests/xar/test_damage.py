"""Images with random damage: verified and extracted to an end, with an answer, and nothing outside the directory."""

import os
import random
from pathlib import Path

import pytest

from layerfs.pysquashfs import SquashfsError
from layerfs.xar.extract import ExtractOptions, extract
from layerfs.xar.package import opened
from layerfs.xar.verify import verify
from tests.xar.forgery import Forgery, directory, file, symlink

NOISE = random.Random(13).randbytes(40_000)
TREE = [
    directory(b""), directory(b"a"), file(b"a/one", NOISE), directory(b"a/sub"), file(b"a/sub/two", b"fragment"),
    file(b"a/three", NOISE[:5000]), symlink(b"away", b"../outside"), directory(b"b"), file(b"b/four", bytes(50_000)),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_any_damage_has_an_answer(seed: int, scratch: Path) -> None:
    chance = random.Random(seed)
    (scratch / "outside").mkdir()
    forgery = Forgery(scratch / "image", TREE)
    sound = bytes(forgery.data)
    used = sound.rstrip(b"\0")
    for round_ in range(15):
        forgery.data[:] = sound
        for _ in range(chance.randint(1, 4)):
            where = chance.choice([chance.randrange(4, 96), chance.randrange(40_000, len(used))])
            forgery.data[where] = chance.randrange(256)
        forgery.path.write_bytes(forgery.data)
        try:
            verify(os.fsencode(forgery.path))
            with opened(os.fsencode(forgery.path)) as package:
                extract(package.image, os.fsencode(scratch / f"out{round_}"), ExtractOptions())
        except SquashfsError as error:
            assert str(forgery.path) in str(error)
    assert os.listdir(scratch / "outside") == []
    assert all(name == "image" or name.startswith("out") for name in os.listdir(scratch))
