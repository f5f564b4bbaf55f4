"""`layerfs xar build`: words in, words out."""

from pathlib import Path

from tests.cli.xars import place as place
from tests.cli.xars import run


def test_options_may_stand_between_the_inputs(place: Path) -> None:
    done = run("build", "tree/text", "-o", "two.xar", "--compression", "none", "tree/bin", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("two.xar: 4 entries, ")
