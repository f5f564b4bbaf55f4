"""The group of verbs about images."""

import re

from tests.cli.images import Shop


def test_help_names_every_verb(shop: Shop) -> None:
    said = shop.run("image", "--help").stdout
    for verb in ("import", "export", "ls", "inspect", "history", "verify", "rm", "tag", "mount", "run", "commit"):
        assert re.search(rf"\b{verb}\b", said)
        assert shop.run("image", verb, "--help").stdout


def test_store_is_where_it_is_said(shop: Shop) -> None:
    other = shop.place / "other"
    assert shop.run("image", "ls", "--root", other).stdout == "no images\n"
    assert (other / "ledger.db").exists()
