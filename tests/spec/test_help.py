"""`-o help`: every option that has an effect is in it."""

from layerfs.spec.help import MEANINGS, option_help
from layerfs.spec.options import known_options


def test_every_option_is_listed_once() -> None:
    words = option_help().replace("=", " ").split()
    for name in known_options():
        assert name in words
    named = [option.partition("=")[0] for option in MEANINGS]
    assert len(named) == len(set(named))
    assert set(named) <= set(known_options())


def test_lines_fit_a_terminal() -> None:
    own, _, generic = option_help().partition("as in mount(8)")
    assert max(map(len, own.splitlines())) <= 110
    assert generic
