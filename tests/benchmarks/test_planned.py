"""Plans of a tree packed and mounted: what is measured, what a layer costs by it, and the curve."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import planned
from benchmarks.planned import DRIVERS, _names, _slope, measure, pack, prices
from tests.host import PROJECT, require
from tests.plan.test_dpkg import STATUS


def row(layers: int, driver: str = "fuse", **more: Any) -> dict[str, Any]:
    about = {"planner": "plan", "k": layers, "layers": layers, "driver": driver}
    return about | {"mount_ms": 100 + 2.0 * layers, "stat_us": 50 + 0.5 * layers} | more


def test_slope_is_that_of_the_line_through_the_points() -> None:
    assert _slope([(1, 5), (2, 7), (4, 11)]) == pytest.approx(2)


def test_price_of_a_layer_is_its_time_in_bytes() -> None:
    rows = [row(4), row(16), row(64), row(64, "kernel", mount_ms=1e6)]  # by FUSE only
    found = prices(rows)
    assert (found["mount_ms_per_layer"], found["lookup_us_per_layer"]) == (2, 0.5)
    assert found["layer_price"] == round((2e-3 + 0.5e-6 * planned.LOOKUPS) * planned.BANDWIDTH)
    quicker = [row(4, stat_us=60), row(64, stat_us=30, mount_ms=1)]  # more layers cost nothing then, and never less
    assert prices(quicker)["layer_price"] == 0


def test_curve_takes_the_better_of_the_rates_and_leaves_out_what_was_not_replayed(scratch: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [row(4, driver) | {"planner": name} for driver in DRIVERS for name in ("plan", "ostree", "unknown")]
    planning = [
        {"planner": "plan", "k": 4, "sent": 1e6},
        {"planner": "ostree (recent)", "k": 4, "sent": 3e6},
        {"planner": "ostree (flat)", "k": 4, "sent": 2e6},
    ]
    (scratch / "rows.json").write_text(json.dumps([rows, planning]))
    code = (
        "import json, pathlib; from benchmarks.planned import curve; place = pathlib.Path('.');"
        "curve(*json.loads((place / 'rows.json').read_text()), place / 'curve.svg')"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    # In a process of its own: matplotlib keeps its fonts open.
    subprocess.run([sys.executable, "-c", code], cwd=scratch, env=environment, check=True)
    drawn = (scratch / "curve.svg").read_text()
    assert "<svg" in drawn
    assert "<!-- 2.00 -->" in drawn  # the greatest number on the axis
    assert "<!-- 3.0 -->" not in drawn


def test_plans_are_packed_hollow_and_mounted(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root", "fuse", "kernel overlay")
    monkeypatch.setattr(planned, "NAMES", 5)
    monkeypatch.setattr(planned, "DROP", scratch / "drop")  # what others have cached stays
    root = scratch / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    for package in ("app", "libc6"):
        (root / "var/lib/dpkg/info" / f"{package}.list").write_text(f"/.\n/usr\n/usr/{package}\n")
        (root / "usr").mkdir(exist_ok=True)
        (root / "usr" / package).write_bytes(bytes(9000))
    pack(str(root), scratch / "out", [2], ["plan", "greedy"])
    assert (scratch / "out/hollow/usr/app").stat().st_size == 0
    assert len(_names(scratch / "out/hollow")) == 5
    rows = measure(scratch / "out", 1)
    assert {(one["planner"], one["k"], one["driver"]) for one in rows} == {
        (planner, 2, driver) for planner in ("plan", "greedy") for driver in DRIVERS
    }
    assert all(one["layers"] <= 2 and one["stat_us"] > 0 and one["mount_ms"] > 0 for one in rows)
    assert not (scratch / "out/mnt").is_mount()
    assert json.loads((scratch / "out/plan-2.json").read_text())["k"] == 2
