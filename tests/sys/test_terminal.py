"""Names that a terminal would obey, printed as what they are."""

import json
import os
import subprocess

import pytest

from layerfs.sys.terminal import json_text, one_line, shell_word, warn


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name", "plain name"),
        ("Grüße 日本".encode(), "Grüße 日本"),
        (b"back\\slash", "back\\slash"),
        (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
        (b"\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        (b"\x00\x7f", "\\x00\\x7f"),
        (b"\xc2\x9b31m", "\\x9b31m"),  # CSI in eight bits, as UTF-8
        (b"\x9b31m\xff", "\\x9b31m\\xff"),  # and as no text at all
        ("\u202egpj.exe\u2066\u2028".encode(), "\\u202egpj.exe\\u2066\\u2028"),
        ("\U000e0041".encode(), "\\U000e0041"),
    ],
)
def test_a_name_is_shown_in_one_printable_line(name: bytes, shown: str) -> None:
    assert one_line(os.fsdecode(name)) == shown
    assert shown.isprintable()


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    warn("a\x1bb\n")
    assert capsys.readouterr().err == "layerfs: warning: a\\x1bb\\n\n"


def test_json_has_no_controls_either() -> None:
    text = json_text({os.fsdecode(b"a\x7f\x1b\x9b\xff"): "\u202e"})
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == {os.fsdecode(b"a\x7f\x1b\x9b\xff"): "\u202e"}


PATHS = [b"/a", b"/sp ace", b"/it's", b"/\x1b[31m\n", b"/back\\slash\x07'", b"/\xff1", "/ü\x9b☃\u202e".encode()]


@pytest.mark.parametrize("path", PATHS)
def test_word_of_a_command_is_the_path_again_in_a_shell(path: bytes) -> None:
    """`layerfs umount /sp ace`, copied from a message, named two other mountpoints."""
    word = shell_word(path)
    assert one_line(word) == word
    told = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert told == path
