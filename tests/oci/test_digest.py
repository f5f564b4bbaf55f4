"""Digests: what is one, and that nothing else gets to be a path."""

import pytest

from layerfs.errors import Corrupt, InvalidArgument
from layerfs.oci.digest import EMPTY, Hasher, digest_of, expect, parse_digest


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 64 + "\n",
     "sha512:" + "a" * 128, "md5:" + "a" * 32, " sha256:" + "a" * 64, None, 5, ["sha256:" + "a" * 64]],
)  # fmt: skip
def test_what_is_no_digest_is_refused(text: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_digest(text)


def test_digest_of_pieces_is_that_of_the_whole() -> None:
    hasher = Hasher()
    assert hasher.digest == EMPTY == parse_digest(EMPTY)
    hasher.update(b"ab")
    hasher.update(memoryview(b"c"))
    assert (hasher.digest, hasher.size) == (digest_of(b"abc"), 3)
    with pytest.raises(Corrupt, match="the blob has digest"):
        expect("the blob", EMPTY, hasher.digest)
    expect("the blob", None, hasher.digest)
