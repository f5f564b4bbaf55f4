"""mount(8) and containerd reach the program through mount.fuse3, which runs it by a shell with a bare environment."""

from pathlib import Path

import pytest

from .stage import LAYERFS_MOUNT, Stage, Union

NEEDS = ("mount.fuse3",)

WAYS = {
    "mount -t fuse.PROGRAM": ("mount", "-t", "fuse.{program}", "source", "{target}", "-o", "{options}"),
    "mount -t fuse3 PROGRAM#": ("mount", "-t", "fuse3", f"{LAYERFS_MOUNT}#source", "{target}", "-o", "{options}"),
    "mount.fuse3 PROGRAM#": ("mount.fuse3", f"{LAYERFS_MOUNT}#source", "{target}", "-o", "rw,{options},dev,suid"),
    "containerd": ("mount.fuse3", "source", "{target}", "-o", "{options}", "-o", "dev", "-t", str(LAYERFS_MOUNT)),
}
EMPTY = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")


@pytest.fixture
def union(root_stage: Stage) -> Union:
    return root_stage.stack(root_stage.layer("lower", {"file": "lower\n", "dir": {"inner": "inner\n"}}))


def mounted(union: Union) -> dict[str, str]:
    """Source, type and mount options of what is mounted there, as the kernel tells them."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[4] == str(union.merged):
            tail = words[words.index("-") + 1 :]
            return {"options": words[5], "type": tail[0], "source": tail[1]}
    return {}


@pytest.fixture
def program(root_stage: Stage) -> Path:
    """The program by a path without a dot: mount(8) looks for a helper named like the type up to its last dot."""
    return root_stage.layer("bin", {"layerfs-mount": LAYERFS_MOUNT}) / "layerfs-mount"


@pytest.mark.parametrize("way", WAYS)
def test_union_is_mounted_by_type_written_to_and_unmounted(
    root_stage: Stage, union: Union, program: Path, way: str
) -> None:
    words = [word.format(target=union.merged, options=union.options, program=program) for word in WAYS[way]]
    root_stage.run(*EMPTY, *words)
    root_stage.attached.append(union)
    facts = mounted(union)
    assert facts["source"] == "source" and facts["type"].startswith("fuse") and facts["options"].startswith("rw")
    root_stage.sh("mv dir moved; rm file; echo new > new", cwd=union.merged)
    root_stage.detach(union)
    assert mounted(union) == {}
    root_stage.attach(union)
    assert root_stage.sh("find . -type f | sort", cwd=union.merged).split() == ["./moved/inner", "./new"]


def test_generic_options_reach_the_kernel(root_stage: Stage, union: Union, program: Path) -> None:
    options = f"{union.options},ro,nosuid,nodev,noexec,noatime"
    root_stage.run("mount", "-t", f"fuse.{program}", "source", union.merged, "-o", options)
    root_stage.attached.append(union)
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= set(mounted(union)["options"].split(","))
    assert "Read-only" in root_stage.attempt("touch", union.merged / "file").stderr


def test_program_is_found_on_the_path_of_the_shell(root_stage: Stage, union: Union) -> None:
    """In a mount namespace in which /usr/local/bin holds nothing else."""
    folder = root_stage.layer("bin", {"layerfs-mount": LAYERFS_MOUNT})
    script = """
        mount --bind "$1" /usr/local/bin
        mount -t fuse.layerfs-mount source "$2" -o "$3"
        cat "$2/file"; umount "$2"
    """
    words = ("unshare", "--mount", "--propagation=private", "sh", "-euc", script, "sh")
    assert root_stage.run(*words, folder, union.merged, union.options) == "lower\n"


def test_failure_is_told_and_leaves_no_mount(root_stage: Stage, union: Union, program: Path) -> None:
    options = f"{union.options.replace('lowerdir=', 'lowerdir=/nonexistent:')}"
    done = root_stage.attempt("mount", "-t", f"fuse.{program}", "source", union.merged, "-o", options)
    assert done.returncode != 0 and "/nonexistent" in done.stderr and "Traceback" not in done.stderr
    assert mounted(union) == {}
