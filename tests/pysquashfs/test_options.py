"""Options that no image can have are refused."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.pysquashfs import (
    Compressor,
    FileSpec,
    SquashfsError,
    WriteOptions,
    write_image,
)
from tests.pysquashfs.write_facts import DIRECTORY, FILE

TREE = [FileSpec(b"d", DIRECTORY), FileSpec(b"f", FILE, data=b"1")]


@pytest.mark.parametrize(
    ("options", "number", "words"),
    [
        ({"compressor": Compressor.LZO}, errno.EOPNOTSUPP, "does not write lzo"),
        ({"compressor": Compressor.ZSTD, "level": 23}, errno.EINVAL, "zstd has levels 1 to 22, not 23"),
        ({"compressor": Compressor.GZIP, "level": 0}, errno.EINVAL, "gzip has levels 1 to 9, not 0"),
        ({"block_size": 5000}, errno.EINVAL, "5000 bytes: not a power of two from 4096 to 1048576"),
        ({"block_size": 2048}, errno.EINVAL, "2048 bytes"),
        ({"block_size": 2**21}, errno.EINVAL, "2097152 bytes"),
        ({"threads": 0}, errno.EINVAL, "0 threads"),
        ({"force_uid": -1}, errno.EINVAL, "force_uid -1 is not within 32 bits"),
        ({"mtime": 2**32}, errno.EINVAL, "mtime 4294967296 is not within 32 bits"),
    ],
)
def test_bad_option_is_refused(options: dict[str, int], number: int, words: str) -> None:
    with pytest.raises(SquashfsError, match=words) as caught:
        WriteOptions(**options)  # type: ignore[arg-type]
    assert caught.value.errno == number


@pytest.mark.parametrize("epoch", ["now", "-1", "4294967296", "1.5"])
def test_bad_source_date_epoch_is_refused(epoch: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(SquashfsError, match=f"SOURCE_DATE_EPOCH is '{epoch}'"):
        write_image(scratch / "image", TREE)
    assert os.listdir(scratch) == []
