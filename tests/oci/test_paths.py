"""Paths of entries, clamped into the root."""

import pytest

from layerfs.oci.paths import clamp, split


@pytest.mark.parametrize(
    ("path", "clamped"),
    [
        (b"a", b"a"), (b"./a/", b"a"), (b"/a//b", b"a/b"), (b"../../a", b"a"), (b"a/../b", b"b"), (b"a/..", b""),
        (b".", b""), (b"..", b""), (b"/", b""), (b"a/./b/../../../c", b"c"), (b"...", b"..."), (b"a\nb", b"a\nb"),
        (b".../x", b".../x"),
    ],
)  # fmt: skip
def test_path_is_clamped_into_the_root(path: bytes, clamped: bytes) -> None:
    assert clamp(path) == clamped


def test_split() -> None:
    assert [split(path) for path in (b"a/b/c", b"a", b"")] == [(b"a/b", b"c"), (b"", b"a"), (b"", b"")]
