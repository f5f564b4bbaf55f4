"""What is said of mistyped words."""

import pytest

from layerfs.cli.parser import VERBS, build_parser, nearest, parser_of


@pytest.mark.parametrize(
    ("word", "hint"), [("umont", ' (did you mean "umount"?)'), ("statsu", ' (did you mean "status"?)'), ("zzz", "")]
)
def test_the_nearest_word_is_named(word: str, hint: str) -> None:
    assert nearest(word, VERBS) == hint


def test_a_complaint_holds_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser(("status",)).parse_args(["status", "--\x1b[31m"])
    assert caught.value.code == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_verb_has_its_own_usage_line() -> None:
    parser = parser_of(build_parser(), ["xar", "build", "tree"])
    assert parser.prog == "layerfs xar build"
