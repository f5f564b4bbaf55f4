"""What other programs are told: TOML, with the address and each driver."""

import tomllib

import pytest

from layerfs.daemon.client_config import PROGRAMS, configuration
from layerfs.snapshots.driver import Capability

DRIVERS = [("overlay", frozenset({Capability.REBASE})), ("fuse", frozenset[Capability]())]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_toml(program: str) -> None:
    assert tomllib.loads(configuration(program, "/run/l.sock", DRIVERS))


def test_containerd_2_is_told_capabilities_and_the_differ() -> None:
    told = tomllib.loads(configuration("containerd-2", "/run/l.sock", DRIVERS))
    assert told["proxy_plugins"]["layerfs"]["capabilities"] == ["rebase"]
    assert told["proxy_plugins"]["layerfs-diff"] == {"type": "diff", "address": "/run/l.sock"}


def test_containerd_1_is_told_nothing_that_it_dies_of() -> None:
    """1.6 ends with a panic at a proxy plugin of type diff."""
    told = tomllib.loads(configuration("containerd-1", "/run/l.sock", DRIVERS))
    assert set(told["proxy_plugins"]) == {"layerfs", "layerfs-overlay", "layerfs-fuse"}
    assert {plugin["type"] for plugin in told["proxy_plugins"].values()} == {"snapshot"}
