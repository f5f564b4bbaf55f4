"""`-o help`: every option that has an effect is in it."""

import pytest

from layerfs.spec.help import MEANINGS, option_help
from layerfs.spec.options import known_options
from layerfs.sys.mounts import parse_generic


def test_every_option_is_listed_once() -> None:
    words = option_help().replace("=", " ").split()
    for name in known_options():
        assert name in words
    named = [option.partition("=")[0] for option in MEANINGS]
    assert len(named) == len(set(named))
    assert set(named) <= set(known_options())
    generic = option_help().rpartition("as in mount(8): ")[2].split()
    assert [name for name in generic if not parse_generic((name,))[1]] == generic  # `offset` and others were among them


def test_lines_fit_a_terminal() -> None:
    own, _, generic = option_help().partition("as in mount(8)")
    assert max(map(len, own.splitlines())) <= 110
    assert generic


@pytest.mark.parametrize("width", [132, 80, 60, 40])
def test_a_narrow_screen_cuts_no_word(width: int) -> None:
    """At 80 columns words were broken wherever the line was full."""
    help = option_help(width)
    assert max(map(len, help.splitlines())) <= width
    assert help.split() == option_help().split()
