"""What a XAR depends on is remembered, and whatever changes the answer is noticed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound
from layerfs.xarexec.xarfile import XarFile, examine, mountpoint_of
from tests.xarexec.conftest import home_in


class Counted:
    """`resolve`, and how often it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from layerfs.xar import graph

        self.calls = 0
        self._resolve = graph.resolve
        monkeypatch.setattr(graph, "resolve", self)

    def __call__(self, lowers: list[bytes], search: object) -> object:
        self.calls += 1
        return self._resolve(lowers, search)  # type: ignore[arg-type]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    yield Counted(monkeypatch)


@pytest.fixture
def diamond(xar: Callable[..., Path]) -> Path:
    for name, depends in {"A": "BC", "B": "D", "C": "D", "D": ""}.items():
        xar(f"x/{name}.xar", name, depends=[f"{other}.xar" for other in depends])
    return Path(os.fsdecode(examine(bytes(xar("x/none.xar"))).members.lowers[0])).parent / "A.xar"


def names(package: XarFile) -> str:
    return "".join(chr(os.path.basename(lower)[0]) for lower in package.members.lowers)


def test_a_graph_is_resolved_once(diamond: Path, counted: Counted) -> None:
    first = examine(bytes(diamond))
    assert names(first) == "ABCD"
    calls = counted.calls
    again = examine(bytes(diamond))
    assert counted.calls == calls
    assert again.is_same(first) and mountpoint_of(again) == mountpoint_of(first)
    assert examine(bytes(diamond), anew=True).is_same(first)
    assert counted.calls > calls


def test_a_changed_dependency_is_noticed(diamond: Path, xar: Callable[..., Path]) -> None:
    first = examine(bytes(diamond))
    xar("x/D.xar", "other")
    second = examine(bytes(diamond))
    assert not second.is_same(first) and mountpoint_of(second) != mountpoint_of(first)


def test_a_dependency_that_vanished_is_noticed(diamond: Path) -> None:
    examine(bytes(diamond))
    diamond.with_name("D.xar").unlink()
    with pytest.raises(NotFound, match=r"no D\.xar"):
        examine(bytes(diamond))


def test_a_second_candidate_is_noticed(
    diamond: Path, xar: Callable[..., Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch / "more").mkdir()
    monkeypatch.setenv("LAYERFS_XAR_PATH", str(scratch / "more"))
    examine(bytes(diamond))
    xar("more/D.xar", "not that of the others")
    with pytest.raises(InvalidArgument, match=r"D\.xar.* is ambiguous"):
        examine(bytes(diamond))


def test_another_search_path_is_noticed(
    diamond: Path, xar: Callable[..., Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine(bytes(diamond))
    xar("more/D.xar", "not that of the others")
    monkeypatch.setenv("LAYERFS_XAR_PATH", str(scratch / "more"))
    with pytest.raises(InvalidArgument, match=r"D\.xar.* is ambiguous"):
        examine(bytes(diamond))


def test_a_hard_link_elsewhere_has_a_neighbourhood_of_its_own(diamond: Path, scratch: Path) -> None:
    examine(bytes(diamond))
    (scratch / "y").mkdir()
    os.link(diamond, scratch / "y/A.xar")
    with pytest.raises(NotFound):
        examine(bytes(scratch / "y/A.xar"))


def test_a_broken_memo_is_none(diamond: Path, root: Path) -> None:
    first = examine(bytes(diamond))
    (memo,) = home_in(root).glob("*.graph")
    whole = memo.read_bytes()
    for size in (0, 1, 40, len(whole) // 2, len(whole) - 3):
        memo.write_bytes(whole[:size])
        assert examine(bytes(diamond)).is_same(first)
