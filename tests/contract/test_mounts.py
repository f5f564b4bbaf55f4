"""What the mounts of snapshots are, in containerd's words."""

import subprocess

from layerfs.snapshots.driver import Capability
from tests.contract.subjects import Subject


def words(subject: Subject, key: str) -> list[tuple[str, set[str]]]:
    """Types, and the options that say how much is there and whether it can be written."""
    shown = {"ro", "rw", "rbind", "upperdir", "workdir", "lowerdir"}
    mounts = subject.snapshots.mounts(key)
    return [(mount.type, {option.partition("=")[0] for option in mount.options} & shown) for mount in mounts]


def test_mounts_of_prepare_and_of_a_second_look_are_the_same(subject: Subject) -> None:
    subject.layer("base", a="1")
    made = subject.snapshots.prepare("work", "base")
    assert made == subject.snapshots.mounts("work")
    assert subject.snapshots.view("look", "base") == subject.snapshots.mounts("look")


def test_last_mount_of_an_active_snapshot_is_never_read_only(subject: Subject) -> None:
    """Newer containerd takes that for "nothing to unpack"."""
    subject.layer("base", a="1")
    subject.layer("top", "base", a="1")
    for parent in ("", "base", "top"):
        mounts = subject.snapshots.prepare(f"on {parent}", parent)
        assert "ro" not in mounts[-1].options


def test_overlay_mounts_are_those_of_containerd(subject: Subject) -> None:
    if subject.name != "overlay":
        return
    subject.layer("base", a="1")
    subject.layer("top", "base", a="1")
    for key, parent in (("none", ""), ("one", "base"), ("two", "top")):
        subject.snapshots.prepare(key, parent)
        subject.snapshots.view(f"view {key}", parent)
    assert {key: words(subject, key) for key in ("none", "one", "two", "view none", "view one", "view two")} == {
        "none": [("bind", {"rbind", "rw"})],
        "one": [("overlay", {"upperdir", "workdir", "lowerdir"})],
        "two": [("overlay", {"upperdir", "workdir", "lowerdir"})],
        "view none": [("bind", {"rbind", "ro"})],
        "view one": [("bind", {"rbind", "ro"})],
        "view two": [("overlay", {"lowerdir", "ro"})],
    }


def test_rebased_layer_hides_what_its_whiteouts_say(subject: Subject) -> None:
    """containerd 2.2 unpacks all layers at once, and says at commit what is below each."""
    if Capability.REBASE not in subject.snapshots.capabilities:
        return
    subject.layer("base", a="1", b="1")
    subject.snapshots.prepare("over", "base")
    with subject.at("over") as target:
        (target / "a").unlink()
    made = subject.snapshots.layer("over").path
    subject.snapshots.prepare("alone", labels={"containerd.io/snapshot/parent-chain-id": "sha256:x"})
    assert [mount.type for mount in subject.snapshots.mounts("alone")] == ["overlay"]
    subprocess.run(["cp", "-aT", made, subject.snapshots.layer("alone").path], check=True)
    subject.snapshots.commit("top", "alone", parent="base")
    assert subject.snapshots.stat("top").parent == "base"
    assert subject.view("top") == {"b": "1"}
