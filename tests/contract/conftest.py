"""`subject`: a test that asks for it runs once over each driver."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.subjects import DRIVERS, Subject, a_subject


@pytest.fixture(params=DRIVERS)
def subject(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Subject]:
    with a_subject(request.param, scratch) as found:
        yield found
