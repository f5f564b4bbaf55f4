"""Hard links: chains lead to their end, at a cost that does not grow with their length."""

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.links import PendingLinks

pytestmark = pytest.mark.usefixtures("each_way")


def test_long_chains_take_each_step_once() -> None:
    """Following each of these from its start would take 10^10 steps."""
    links = PendingLinks()
    for number in range(100_000):
        links.add(b"%d" % number, b"%d" % (number + 1))
    ((target, names),) = links.groups()
    assert (target, len(names)) == (b"100000", 100_000)


def test_last_word_counts() -> None:
    links = PendingLinks()
    links.add(b"a", b"a")
    links.add(b"b", b"x")
    links.add(b"b", b"y")
    links.add(b"c", b"y")
    links.forget(b"c")
    assert list(links.groups()) == [(b"y", [b"b"])]


@pytest.mark.parametrize(
    "pairs", [[(b"a", b"b"), (b"b", b"a")], [(b"x", b"a"), (b"a", b"b"), (b"b", b"c"), (b"c", b"a")]]
)
def test_circle_is_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    links = PendingLinks()
    for pair in pairs:
        links.add(*pair)
    with pytest.raises(Corrupt):
        list(links.groups())
