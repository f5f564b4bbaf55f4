"""A stage for each kind of person, and the Debian base system that is made once."""

from collections.abc import Iterator

import pytest

from . import people
from .people import Person
from .stage import Stage


@pytest.fixture(scope="session")
def root() -> Person:
    return people.superuser()


@pytest.fixture(scope="session")
def user() -> Person:
    return people.unprivileged()


@pytest.fixture(params=["root", "rootless"])
def person(request: pytest.FixtureRequest) -> Person:
    """Root and then an unprivileged user: a test that takes this runs as both."""
    return people.superuser() if request.param == "root" else people.unprivileged()


@pytest.fixture
def stage(person: Person) -> Iterator[Stage]:
    stage = Stage(person)
    try:
        yield stage
        stage.finish()
    finally:
        stage.close()
