"""Damaged requests, answers and tables do no harm: the lane under the address and undefined-behaviour sanitizers."""

from pathlib import Path

from tests import sanitized
from tests.lane.fuzz import MODULE

COUNT = 30_000
SEED = 20261127


def test_damaged_messages_and_tables_are_answered_or_passed_on(tmp_path: Path) -> None:
    module = sanitized.build(MODULE, sanitized.ADDRESS, tmp_path / "build")
    (tmp_path / "place").mkdir()
    said = sanitized.run(
        sanitized.ADDRESS, "tests.lane.fuzz", tmp_path / "place", module, f"--seed={SEED}", f"--count={COUNT}"
    )
    assert int(said.split()[0]) > COUNT / 2
