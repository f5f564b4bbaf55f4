"""Names in a tree of any depth."""

from layerfs.pysquashfs.trail import SHOWN, Trail


def trail_of(*names: bytes) -> Trail:
    found = Trail(None, b"")
    for name in names:
        found = Trail(found, name)
    return found


def test_a_path_is_put_together_from_the_root() -> None:
    assert trail_of().path == b""
    assert trail_of(b"a", b"b", b"c").path == trail_of(b"a", b"b", b"c").shown == b"a/b/c"


def test_of_a_very_long_path_the_end_is_shown() -> None:
    shown = trail_of(*[b"n" * 250] * 100, b"last").shown
    assert shown.startswith(b".../nnn") and shown.endswith(b"nnn/last") and len(shown) <= SHOWN + 260


def test_any_depth_is_let_go_of() -> None:
    deep = trail_of(*[b"d"] * 200_000)
    assert len(deep.path) == 399_999
    del deep
