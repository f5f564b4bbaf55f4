"""Damaged tars, and directories that change while threads read them, do no harm: the batch under the sanitizers."""

from pathlib import Path

import pytest

from tests import sanitized
from tests.batch.fuzz import MODULE
from tests.sanitized import Sanitizer

SEED = 20261128
COUNT = 150


@pytest.mark.parametrize("sanitizer", [sanitized.ADDRESS, sanitized.THREAD], ids=["address", "thread"])
def test_nothing_is_read_or_written_out_of_bounds_or_at_the_same_time(sanitizer: Sanitizer, tmp_path: Path) -> None:
    module = sanitized.build(MODULE, sanitizer, tmp_path / "build")
    (tmp_path / "place").mkdir()
    said = sanitized.run(
        sanitizer, "tests.batch.fuzz", tmp_path / "place", module, f"--seed={SEED}", f"--count={COUNT}"
    )
    assert said.split()[0] == str(COUNT)
