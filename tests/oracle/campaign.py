"""How many examples, how long: the same every time in CI, a longer campaign by environment.

LAYERFS_ORACLE_EXAMPLES=2000 asks for that many random (not fixed) examples of each setting.
A program, because each setting wants namespaces of its own:
`unshare --mount python -m tests.oracle.campaign REDIRECT 60 25`.
"""

import os
import sys
import time
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import world as worlds_module
from tests.oracle.operations import Operation
from tests.oracle.strategies import operations, worlds
from tests.oracle.world import ROOTLESS, Pair, Setting, World, explore

LONG = int(os.environ.get("LAYERFS_ORACLE_EXAMPLES", "0"))


def campaign(setting: Setting, examples: int, seconds: float) -> int:
    """Run up to `examples` examples but start none after `seconds` [s]; how many ran. Raises the smallest Mismatch."""
    privileged = setting is not ROOTLESS
    deadline = time.monotonic() + (seconds if not LONG else float("inf"))
    ran, failed = 0, False

    @settings(
        max_examples=LONG or examples,
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(worlds(privileged), st.integers(10, 40), st.data())
    def examine(world: World, length: int, data: st.DataObject) -> None:
        nonlocal ran, failed
        if not failed and time.monotonic() > deadline:
            return
        ran += 1

        def choose(pair: Pair) -> Iterator[Operation]:
            for _ in range(length):
                yield data.draw(operations(pair.types(), privileged))

        failed = True  # while shrinking, time does not count
        explore(world, choose, setting)
        failed = False

    examine()
    return ran


def main(name: str, examples: str, seconds: str) -> int:
    """Run the setting `name`; fewer than five examples are a failure too."""
    ran = campaign(getattr(worlds_module, name), int(examples), float(seconds))
    print(f"{ran} examples equal")
    return 0 if ran >= 5 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
