"""What clients send, within bounds."""

from collections.abc import Callable

import pytest

from layerfs.daemon.messages import SNAPSHOTS, message
from layerfs.daemon.requests import filters_of, key_of, labels_of, parent_of, update_of
from layerfs.errors import InvalidArgument

REFUSED: dict[str, Callable[[], object]] = {
    "no key": lambda: key_of(""),
    "a long key": lambda: key_of("k" * 4097),
    "NUL": lambda: parent_of("a\0b"),
    "a large label": lambda: labels_of({"k": "v" * 4096}),
    "a label without name": lambda: labels_of({"": "v"}),
    "many labels": lambda: labels_of({str(number): "" for number in range(1025)}),
    "many filters": lambda: filters_of(["name==a"] * 129),
    "a long filter": lambda: filters_of(["x" * 16385]),
}


@pytest.mark.parametrize("ask", REFUSED.values(), ids=list(REFUSED))
def test_what_is_too_much_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        ask()


@pytest.mark.parametrize("key", ["default/1/extract-333-x sha256:ab", "/a/b c", "..", "ü" * 2048])
def test_keys_are_opaque(key: str) -> None:
    assert key_of(key) == key


def test_an_update_names_its_fields() -> None:
    request = message(SNAPSHOTS, "UpdateSnapshotRequest")(info={"name": "n", "labels": {"a": "1"}})
    request.update_mask.paths.append("labels.a")
    info, fields = update_of(request)
    assert (info.name, dict(info.labels), fields) == ("n", {"a": "1"}, ("labels.a",))
