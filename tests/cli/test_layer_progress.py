"""Progress of layers."""

import pytest

from layerfs.cli.layer_progress import LayerProgress


def test_each_blob_that_is_done_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with LayerProgress() as layers:
        for word in ("storing", "stored", "stored", "unpacking", "unpacked"):
            layers.progress(word, "sha256:" + "a" * 64, 1, 2)
        layers.say("name\nx")
    said = capsys.readouterr()
    assert said.err == "aaaaaaaaaaaa stored\naaaaaaaaaaaa unpacked\n"
    assert said.out.count("\n") == 1
