"""How many examples, how long: the same every time in CI, a longer campaign by environment.

LAYERFS_ORACLE_EXAMPLES=2000 asks for that many random (not fixed) examples of each setting.
A program, because each setting wants namespaces of its own:
`unshare --mount python -m tests.oracle.campaign REDIRECT 60 25`.
"""

import os
import sys
import time
from collections.abc import Iterator

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tests.oracle import known
from tests.oracle import world as worlds_module
from tests.oracle.operations import Operation
from tests.oracle.shrink import Example, shrink
from tests.oracle.strategies import operations, worlds
from tests.oracle.world import ROOTLESS, Failed, Pair, Setting, World, explore, run, script

SHRINK = 60.0  # s
FEWEST = 5  # examples, however long they take: a machine may be busy
LONG = int(os.environ.get("LAYERFS_ORACLE_EXAMPLES", "0"))


def campaign(setting: Setting, examples: int, seconds: float) -> int:
    """Run up to `examples` examples; once FEWEST ran none starts after `seconds` [s]; how many ran. Raises Failed."""
    privileged = setting.prefix != ROOTLESS.prefix
    deadline = time.monotonic() + (seconds if not LONG else float("inf"))
    ran = 0

    @settings(
        max_examples=LONG or examples,
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrink.py is bounded in time, and shrinks literals
    )
    @given(worlds(privileged), st.integers(10, 40), st.data())
    def examine(world: World, length: int, data: st.DataObject) -> None:
        nonlocal ran

        def choose(pair: Pair) -> Iterator[Operation]:
            for _ in range(length):
                operation = data.draw(operations(pair.types(), privileged))
                if not (setting.images and known.changes_acl(operation)):
                    yield operation

        if (time.monotonic() > deadline and ran >= FEWEST) or (setting.images and known.breaks_links(world.lowers)):
            return
        ran += 1
        try:
            explore(world, choose, setting)
        except Failed as failed:
            _stop(failed, world, setting)

    try:
        examine()
    except Flaky:
        # An example that is not started for want of time draws less than one with the same beginning did before.
        if time.monotonic() <= deadline:
            raise
    return ran


def _stop(failed: Failed, world: World, setting: Setting) -> None:
    """Shrink the failing example, print it as a program and leave."""

    def fails(example: Example) -> bool:
        try:
            run(*example, setting)
        except Failed:
            return True
        return False

    print(f"{failed}\n{script(world, failed.operations, setting)}\n\nshrunk:", flush=True)
    smallest = shrink((world, failed.operations), fails, SHRINK)
    try:
        run(*smallest, setting)
    except Failed as last:
        print(last)
    print(script(*smallest, setting), flush=True)
    sys.stdout.flush()
    os._exit(1)


def main(name: str, examples: str, seconds: str) -> int:
    """Run the setting `name`; fewer than FEWEST examples are a failure too."""
    ran = campaign(getattr(worlds_module, name), int(examples), float(seconds))
    print(f"{ran} examples equal")
    return 0 if ran >= FEWEST else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
