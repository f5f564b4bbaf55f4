"""Chains of snapshots are the trees that kernel overlayfs makes of the same operations, over every driver."""

from pathlib import Path

import pytest

from tests.contract.subjects import DRIVERS, a_subject, is_packing
from tests.host import require
from tests.oracle.chains import Run
from tests.waiting import wait_until

SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DRIVERS)
def test_chain_of_snapshots_is_the_tree_of_kernel_overlayfs(name: str, seed: int, scratch: Path) -> None:
    require("root", "kernel overlay")
    with a_subject(name, scratch) as subject:
        Run(subject, seed).run()


def test_chain_of_packed_images_is_the_tree_of_kernel_overlayfs(scratch: Path) -> None:
    """Each layer is an image before the next one stands on it."""
    require("root", "kernel overlay", "fuse")
    with a_subject("xar", scratch) as subject:
        run = Run(subject, 4)
        commit = subject.snapshots.commit

        def commit_and_wait(name: str, key: str, **rest: bool) -> None:
            commit(name, key, **rest)  # type: ignore[arg-type]
            wait_until(lambda: not is_packing(subject.root))
            failed = subject.root / "drivers/xar/failed"
            said = [path.read_text() for path in failed.iterdir()] if failed.exists() else []
            assert subject.snapshots.layer(name).path.endswith(b".xar"), said

        subject.snapshots.commit = commit_and_wait  # type: ignore[assignment]
        run.run()
