"""How a union behaves, as values."""

import pytest

from layerfs.union.options import IdRange, OverrideStat, RedirectDir, UnionOptions
from layerfs.value import replace


def test_nothing_that_was_asked_for_is_the_default() -> None:
    options = UnionOptions()
    assert (options.acl, options.fsync, options.xino, options.writeback, options.volatile) == (
        True,
        True,
        True,
        True,
        False,
    )
    assert (options.override_stat, options.redirect_dir) == (OverrideStat.OFF, RedirectDir.AUTO)


def test_options_are_values() -> None:
    maps = (IdRange(0, 1000, 1),)
    assert replace(UnionOptions(), uid_map=maps) == UnionOptions(uid_map=maps) != UnionOptions()
    with pytest.raises(AttributeError):
        UnionOptions().volatile = True  # type: ignore[misc]
