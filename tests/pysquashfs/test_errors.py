"""What is wrong with an image, as one exception: an errno, a place and a sentence."""

import errno
import pickle

import pytest

from layerfs.pysquashfs.errors import CODES, SquashfsError, from_status

# As read.h has it: the code of libsquashfs, the reason and the errno, each in its bits.
STATUSES = {
    -(5 | 13 << 8): (errno.EIO, "SQFS_ERROR_CORRUPTED"),
    -(2 | 2 << 8 | errno.ESTALE << 16): (errno.ESTALE, "SQFS_ERROR_IO"),
    -(1 | 1 << 8): (errno.ENOMEM, "SQFS_ERROR_ALLOC"),
    -(200 | 250 << 8): (errno.EIO, "SQFS_ERROR_INTERNAL"),
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items(), ids=str)
def test_a_status_of_the_reader_becomes_an_errno_a_code_and_a_reason(status: int, expected: tuple[int, str]) -> None:
    error = from_status(status, filename=b"image", what="inode 7")
    assert (error.errno, error.code) == expected
    assert str(error).startswith("image: inode 7: ")
    assert str(error) != "image: inode 7: "


def test_every_code_of_libsquashfs_has_an_errno() -> None:
    assert sorted(CODES) == list(range(1, 18))
    assert all(number in errno.errorcode for _, number in CODES.values())


def test_the_sentence_leaves_out_what_is_not_known_and_survives_a_pickle() -> None:
    error = SquashfsError(errno.EIO, "is wrong", filename=None, what="", code="X")
    assert str(error) == "is wrong"
    again = pickle.loads(pickle.dumps(SquashfsError(errno.EIO, "is wrong", filename="f", what="inode 7", code="X")))
    assert (str(again), again.errno, again.code) == ("f: inode 7: is wrong", errno.EIO, "X")
