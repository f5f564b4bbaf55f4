"""When there is a lane, and when there is none."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from layerfs.fuse import natively
from layerfs.fuse.config import ServeConfig
from layerfs.fuse.natively import pages_with_lane
from tests.fuse.conftest import Pair

CONFIG = ServeConfig(b"/nowhere")


def test_messages_have_as_many_pages_as_the_sockets_take() -> None:
    assert natively.LEAST_PAGES <= pages_with_lane(CONFIG) <= 64


@pytest.mark.parametrize("config", [ServeConfig(b"/nowhere", lane=False), ServeConfig(b"/nowhere", debug=True)])
def test_there_is_none_where_it_is_not_wanted_or_each_request_is_to_be_logged(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAYERFS_LANE", raising=False)
    assert pages_with_lane(config) == 0


def test_there_is_none_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFS_LANE", "0")
    assert pages_with_lane(CONFIG) == 0


def test_there_is_one_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERFS_LANE", "1")
    assert pages_with_lane(ServeConfig(b"/nowhere", lane=False)) >= natively.LEAST_PAGES


def test_there_is_none_without_the_compiled_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natively, "compiled_part", lambda: None)
    assert pages_with_lane(CONFIG) == 0


def test_there_is_none_where_sockets_take_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natively, "passing_pages", lambda: natively.LEAST_PAGES - 1)
    assert pages_with_lane(CONFIG) == 0


def test_without_the_compiled_part_libfuse_answers_what_it_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natively, "compiled_part", lambda: None)
    monkeypatch.setattr(natively, "_set_aside", None)  # another test's server may have begun in this process
    natively.intercept()
    assert natively.intercepted() is None


def test_a_lane_holds_an_eighth_of_the_descriptors_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have 1,024 in all; the union needs most of them."""
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr("layerfs.sys.limits.raise_open_files", lambda: 1024)

    def lane(*words: object) -> Silent:
        opened.append(words)
        return Silent()

    monkeypatch.setattr("layerfs.lane.lane.Lane", lane)
    natively.open_lane(3, 1.0)
    assert opened[0][-1] == 128


class Silent:
    def set_raw(self, opcodes: Iterable[int]) -> None:
        """Take it."""


@pytest.mark.parametrize(
    ("switch", "pages", "said"), [("N\n", 64, "1"), ("Y\n", 31, "1"), ("Y\n", 64, "0"), (None, 64, "1")]
)
def test_no_ring_is_opened_where_it_is_off_or_small_or_unwanted(
    switch: str | None, pages: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if switch is not None:
        (tmp_path / "switch").write_text(switch)
    monkeypatch.setattr(natively, "URING", str(tmp_path / "switch"))
    monkeypatch.setattr(natively, "open_lane", lambda *_: pytest.fail("a lane was opened"))
    monkeypatch.setenv("LAYERFS_URING", said)
    assert natively.open_ring(0, 1.0, pages) is None


def test_a_device_that_takes_no_commands_has_no_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    (tmp_path / "switch").write_text("Y\n")
    monkeypatch.setattr(natively, "URING", str(tmp_path / "switch"))
    assert natively.open_ring(pair[1].fileno(), 1.0, 64) is None
