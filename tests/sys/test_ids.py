"""User ids across user namespaces."""

import os
import subprocess
import sys

from layerfs.sys.ids import maps_every_id, outside_id
from tests.host import PROJECT, require
from tests.waiting import PATIENCE


def test_in_the_initial_namespace_an_id_is_itself() -> None:
    assert outside_id(os.geteuid()) == os.geteuid()
    assert maps_every_id()


def test_root_of_a_namespace_is_who_made_it() -> None:
    require("root", "userns")
    program = "from layerfs.sys.ids import maps_every_id, outside_id as of; print(of(0), of(5), maps_every_id())"
    command = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "unshare", "--user", "--map-root-user"]
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        cwd=PROJECT, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout.split() == ["4321", "5", "False"]  # 5 has no mapping: nothing is known of it
