"""Records and what they hold."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.errors import NotFound
from layerfs.store.ledger import Ledger
from layerfs.store.records import Records


@pytest.fixture
def records(scratch: Path) -> Iterator[Records]:
    ledger = Ledger(os.fsencode(scratch))
    yield Records(ledger)
    ledger.close()


def test_record_is_replaced_with_all_that_it_holds(records: Records) -> None:
    first = records.put("image", "a", "sha256:1", ["sha256:1", "sha256:2"], {"x": "y"})
    assert records.get("image", "a") == first
    second = records.put("image", "a", "sha256:3", ["sha256:3"])
    assert (second.created, second.labels) == (first.created, {})
    assert second.updated > first.updated
    assert records.holds("image", "a") == ["sha256:3"]
    assert records.get("other", "a") is None


def test_removal_says_what_nobody_holds_any_more(records: Records) -> None:
    records.put("image", "b", "sha256:1", ["sha256:1", "snapshot:overlay/base", "sha256:own"])
    records.put("image", "a", "sha256:1", ["sha256:1", "snapshot:overlay/base"])
    assert [record.name for record in records.all("image")] == ["a", "b"]
    assert [record.name for record in records.holders("sha256:1")] == ["a", "b"]
    assert records.held() == {"sha256:1", "snapshot:overlay/base", "sha256:own"}
    assert records.remove("image", "b") == ["sha256:own"]
    assert sorted(records.remove("image", "a")) == ["sha256:1", "snapshot:overlay/base"]
    with pytest.raises(NotFound):
        records.remove("image", "a")
