"""What a person sees of a long piece of work."""

import pytest

from layerfs.cli.screen import MOST, bar, complain, size


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"), (5 << 50, "5120.0 TiB")],
)
def test_a_number_of_bytes_is_said_in_units(count: int, said: str) -> None:
    assert size(count) == said


def test_of_many_complaints_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    complain([f"file{number}: \x1b[31mbad" for number in range(MOST + 3)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MOST + 1
    assert lines[0].startswith("layerfs: file0: ") and "\x1b" not in lines[0]
    assert lines[-1] == "layerfs: and 3 more"


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("packing") as tell:
        tell(1, 2)
    assert capsys.readouterr() == ("", "")
