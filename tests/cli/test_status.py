"""`layerfs status`: what it knows, and what it notices."""

import json
import os
import signal
import subprocess

import pytest

from layerfs.cli.status import _span
from layerfs.mounts.health import MEANINGS
from layerfs.mounts.registry import birth
from tests.cli.conftest import Place, make_place
from tests.host import BIN, Person, require
from tests.waiting import PATIENCE, wait_until


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_a_mount_is_shown_with_driver_reason_layers_and_server(place: Place, driver: str) -> None:
    place.mount("--driver", driver, "-o", "noexec")
    shown = place.status()
    assert shown.pop("uptime") < PATIENCE
    assert shown.pop("started") > 0
    pid = shown.pop("pid")
    assert birth(pid) if driver == "fuse" else pid is None
    assert shown == {
        "mountpoint": str(place.mnt),
        "health": "serving",
        "driver": driver,
        "recorded": True,
        "why": f"asked for by --driver={driver}",
        "layers": [str(layer) for layer in place.layers],
        "upper": str(place.upper),
        "work": f"{place.upper}.work",
        "options": "rw,noexec",
        "log": None,
    }


def test_auto_says_which_driver_and_why(place: Place) -> None:
    place.do("mount", *place.layers, place.mnt)
    assert place.status()["driver"] in ("kernel", "fuse")
    assert "asked for" not in place.status()["why"]


def test_why_says_who_asked(place: Place) -> None:
    place.do("mount", *place.layers, place.mnt, "-o", "driver=fuse")
    assert place.status()["why"] == "asked for by -o driver=fuse"
    place.do("umount", "mnt")
    place.do("-o", f"lowerdir={place.layers[0]}", place.mnt, program="layerfs-mount")
    assert place.status()["why"] == "layerfs-mount serves by FUSE unless -o driver= says otherwise"


def test_help_explains_each_word_of_health(place: Place) -> None:
    shown = place.do("status", "--help")
    for health, meaning in MEANINGS.items():
        assert f"  {health.value:<10}{meaning}" in shown


def test_a_narrow_terminal_loses_nothing(place: Place) -> None:
    place.mount("--driver", "fuse")
    command = f"stty cols 60; {BIN}/layerfs status"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    lines = done.stdout.splitlines()
    assert str(place.mnt) in [line.split()[0] for line in lines if line.strip()]
    assert f"  upper {place.upper}" in lines
    assert "asked for by --driver=fuse" in done.stdout


def test_an_image_is_named_by_its_file(place: Place) -> None:
    require("mksquashfs")
    image = place.base / "tools.sqfs"
    subprocess.run(["mksquashfs", place.layers[0], image, "-quiet", "-no-progress"], check=True, capture_output=True)
    place.do("mount", image, place.layers[1], place.mnt, "--driver", "fuse")
    (line,) = (line for line in place.do("status").splitlines() if str(place.mnt) in line)
    assert "  tools.sqfs +1  " in line
    assert str(place.mnt) in place.do("status", image)


def test_the_table_names_the_mount_on_one_line(place: Place) -> None:
    place.mount("--driver", "fuse")
    line = next(line for line in place.do("status").splitlines() if str(place.mnt) in line)
    assert ["serving", "fuse", "2"] == line.split()[1:4]


def test_one_mount_is_shown_in_full_and_its_health_is_the_exit_status(place: Place) -> None:
    place.mount("--driver", "fuse")
    shown = place.do("status", "mnt")
    for word in ("serving", "fuse", *map(str, place.layers), str(place.upper)):
        assert word in shown
    os.kill(place.status()["pid"], signal.SIGKILL)
    wait_until(lambda: place.status()["health"] == "dead")
    assert place.run("status", "mnt").returncode == 1


def test_a_mountpoint_without_a_mount_is_not_found(place: Place) -> None:
    done = place.run("status", "mnt")
    assert (done.returncode, done.stdout) == (1, "")
    assert "not a mount of layerfs" in done.stderr


def test_a_server_that_does_not_answer_is_silent_and_hangs_nobody(place: Place) -> None:
    place.mount("--driver", "fuse")
    pid = place.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert place.status()["health"] == "silent"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert place.status()["health"] == "serving"


def test_what_somebody_else_unmounted_is_gone_from_a_server_and_unmounted_from_the_kernel(place: Place) -> None:
    place.mount("--driver", "fuse")
    subprocess.run(["umount", place.mnt], check=True, timeout=PATIENCE)
    wait_until(lambda: place.status() == {})
    place.mount("--driver", "kernel")
    subprocess.run(["umount", place.mnt], check=True, timeout=PATIENCE)
    assert place.status()["health"] == "unmounted"
    assert place.run("status", "mnt").returncode == 1
    place.do("umount", "mnt")
    assert place.status() == {}


def test_somebody_elses_mount_is_shown_as_far_as_it_can_be_seen(place: Place, person: Person) -> None:
    require("person")
    theirs = make_place(person.home / "place", person)
    theirs.mount("--driver", "fuse")
    shown = next(mount for mount in json.loads(place.do("status", "--json")) if mount["mountpoint"] == str(theirs.mnt))
    assert shown["recorded"] is False
    assert shown["driver"] == "fuse"
    assert str(theirs.mnt) in place.do("status")
    theirs.do("umount", "mnt")


def test_a_mount_of_another_namespace_is_elsewhere(place: Place) -> None:
    require("unshare")
    script = "layerfs mount top mnt --driver fuse && sleep 300"
    path = f"{BIN}:{os.environ['PATH']}"
    command = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, cwd=place.base, env={**os.environ, "PATH": path}, start_new_session=True) as holder:
        try:
            wait_until(lambda: place.status() != {})
            assert place.status()["health"] == "elsewhere"
            refused = place.run("umount", "mnt")
            assert refused.returncode == 1
            assert f"nsenter -t {place.status()['pid']}" in refused.stderr
        finally:
            pid = place.status()["pid"]
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: birth(pid) == 0)
            os.killpg(holder.pid, signal.SIGTERM)
    assert place.status() == {}


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.9, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90000, "1d1h")]
)
def test_uptime_is_shown_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert _span(seconds) == words
