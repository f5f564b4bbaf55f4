"""The verbs of `layerfs xar` together: their help, mistakes and wrong usage."""

import subprocess
from pathlib import Path

import pytest

from layerfs.cli import xar as verb
from tests.cli.xars import place as place
from tests.cli.xars import run
from tests.host import BIN
from tests.waiting import PATIENCE
from tests.xar.readers import lines_of, xar


def test_help_names_every_part_and_each_has_its_own(scratch: Path) -> None:
    shown = run("--help", cwd=scratch).stdout
    for part in verb.PARTS:
        assert f"    {part}" in shown
        assert f"usage: layerfs xar {part}" in run(part, "--help", cwd=scratch).stdout


def test_only_the_part_that_is_asked_for_is_imported(place: Path) -> None:
    program = "import sys; from layerfs.cli.main import main; main(['xar', 'verify', 'app.xar']); print(*sys.modules)"
    words = [str(BIN / "python"), "-c", program]
    loaded = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=place, timeout=PATIENCE
    ).stdout.split()
    assert "layerfs.cli.xar_verify" in loaded
    assert {f"layerfs.cli.xar_{part}" for part in verb.PARTS if part != "verify"}.isdisjoint(loaded)
    assert {"rich", "trio", "layerfs.pysquashfs.writer"}.isdisjoint(loaded)


REFUSED: dict[str, tuple[list[str], str]] = {
    "no such tree": (["build", "none", "-o", "x.xar"], "none: No such file or directory"),
    "no such output": (["build", "tree", "-o", "no/x.xar"], "no such directory: "),
    "output in the input": (["build", "tree", "-o", "tree/x.xar"], "lies in the input"),
    "no such target": (["build", "tree", "-o", "x.xar", "--target", "app"], "the target app is not in the package"),
    "a bad level": (["build", "tree", "-o", "x.xar", "--level", "99"], "zstd has levels 1 to 22, not 99"),
    "a bad uuid": (["build", "tree", "-o", "x.xar", "--uuid", "xyz"], "expected UUID to be 8 hex digits"),
    "info of nothing": (["info", "none"], "none: No such file or directory"),
    "info of text": (["info", "tree/text"], "tree/text is neither a squashfs image nor a XAR"),
    "info of a directory": (["info", "tree"], "tree is not a regular file"),
    "info of a bad header": (["info", "bad.xar"], "bad.xar: line 3: expected UUID to be 8 hex digits, found"),
    "info of a bad image": (["info", "empty.xar"], "empty.xar: "),
    "extract of text": (["extract", "tree/text", "-C", "out"], "tree/text is neither a squashfs image nor a XAR"),
    "extract of a bad image": (["extract", "empty.xar", "-C", "out"], "empty.xar: "),
    "extract over a tree": (["extract", "app.xar", "-C", "tree"], "tree is not empty (hint: --force replaces what is"),
    "extract nowhere": (["extract", "app.xar", "-C", "no/out"], "no/out: No such file or directory"),
    "extract to a file": (["extract", "app.xar", "-C", "tree/text"], "Not a directory"),
    "extract what is not there": (["extract", "app.xar", "-C", "out", "bin/no"], "no such path in the image: bin/no"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line_and_no_traceback(words: list[str], said: str, place: Path) -> None:
    (place / "bad.xar").write_bytes(xar(lines_of(UUID="me")))
    (place / "empty.xar").write_bytes(xar(lines_of()))
    done = run(*words, cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.startswith("layerfs: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: VERB"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["build"], "required: DIR|FILE, -o/--output"),
        (["build", "tree", "-o", "x", "--block-size", "5K"], "'5K' is no power of two from 4K to 1M"),
        (["build", "tree", "-o", "x", "--block-size", "2M"], "'2M' is no power of two from 4K to 1M"),
        (["build", "tree", "-o", "x", "--version", "one"], "'one' is not a number"),
        (["build", "tree", "-o", "x", "--compression", "lzo"], "invalid choice: 'lzo'"),
        (["extract", "app.xar"], "required: -C/--to"),
        (["verify"], "required: FILE"),
        (["info", "a", "b"], "unrecognized arguments: b"),
    ],
    ids=str,
)
def test_wrong_usage_exits_with_two(words: list[str], said: str, scratch: Path) -> None:
    done = run(*words, cwd=scratch)
    assert done.returncode == 2
    assert said in done.stderr
