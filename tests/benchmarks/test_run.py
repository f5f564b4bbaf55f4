"""A tiny run on real mounts: records, digests, the budget, and nothing left behind."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from benchmarks.model import BenchError, BuiltTree, Case, Scale, Site, Value
from benchmarks.mounted_site import MountedSite, servers
from benchmarks.questions.passes import cold_warm, one_pass
from benchmarks.records import Results, Writer
from benchmarks.runner import Plan, Run
from benchmarks.subjects.bind import Bind
from benchmarks.subjects.fuse_overlayfs import FuseOverlayfs
from benchmarks.subjects.kernel_overlay import KernelOverlay
from benchmarks.subjects.layerfs_mount import LayerfsMount
from benchmarks.subjects.named import NamedPeer
from benchmarks.subjects.plain import Plain
from benchmarks.subjects.rootless import Rootless
from benchmarks.subjects.squashfs import LoopSquashfs, SquashFuse
from benchmarks.trees import build, images
from tests.conftest import mounts_below

pytestmark = [pytest.mark.mounts, pytest.mark.alone]  # measures, and drops the host's caches


class Tiny:
    """Asks a tree of 200 files for a stat of each."""

    name = "tiny"
    rounds = 1.0

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("tiny", 3)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        yield from cold_warm(site, layers, "stat", layers.present)


class Packed(Tiny):
    """Asks the same of the tree as three images."""

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("tiny.sqfs", 3)]


class Writing(Tiny):
    """Removes every file of a tree of 200."""

    name = "writing"

    def cases(self, scale: Scale) -> list[Case]:
        return [Case("tiny", 3, writes=True)]

    def sample(self, site: MountedSite, layers: BuiltTree, case: Case) -> Iterator[Value]:
        with site.mounted(layers):
            yield from one_pass(site, "unlink", layers.present, "unlink")


class Wrong(Bind):
    """Shows another tree than the one it was given."""

    name = "wrong"

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        return ["/usr/bin/mount", "--bind", str(layers.flat / "d0000"), str(site.mnt)]


class Broken(Bind):
    """Cannot be mounted."""

    name = "broken"

    def mount_command(self, layers: BuiltTree, site: Site) -> list[str]:
        return ["/bin/false"]


class Absent(Plain):
    """Is not installed."""

    name = "absent"

    def missing(self) -> str | None:
        return "not installed"


def plan(scratch: Path, *subjects: object, question: Tiny | None = None, **rest: object) -> Results:
    """Run two rounds; every record, arranged."""
    writer = Writer(None)
    wanted: dict[str, object] = {"scale": Scale.NORMAL, "rounds": 2, "cache": scratch / "cache", **rest}
    Run(Plan(questions=[question or Tiny()], subjects=subjects, **wanted), writer, lambda what, share: None).run()  # type: ignore[arg-type]
    return Results.of(writer.records)


@pytest.fixture(autouse=True)
def _root(require: Callable[..., None]) -> None:
    require("root")


def test_every_subject_is_measured_in_every_round(scratch: Path) -> None:
    found = plan(scratch, Bind(), KernelOverlay())
    counted = {(one["subject"], one["measure"], one["round"]) for one in found.kind("sample")}
    assert counted == set(product(("bind", "kernel-overlay"), ("stat.cold", "stat.warm"), (0, 1)))
    assert all(one["value"] > 0 and sum(one["histogram"].values()) == 200 for one in found.kind("sample"))


def test_the_order_of_the_subjects_rotates(scratch: Path) -> None:
    order = [one["subject"] for one in plan(scratch, Bind(), KernelOverlay()).kind("sample")]
    assert list(dict.fromkeys(order[:4])) == ["bind", "kernel-overlay"]
    assert list(dict.fromkeys(order[4:])) == ["kernel-overlay", "bind"]


def test_digests_tell_a_wrong_tree_from_a_right_one(scratch: Path) -> None:
    same = {one["subject"]: one["same"] for one in plan(scratch, KernelOverlay(), Bind()).kind("digest")}
    assert same == {"kernel-overlay": True, "bind": True}
    [failed] = plan(scratch, Wrong()).kind("failed")
    assert "No such file" in failed["error"]


def test_a_subject_that_fails_or_is_missing_does_not_end_the_run(scratch: Path) -> None:
    found = plan(scratch, Broken(), Absent(), Bind())
    assert [(one["subject"], one["round"]) for one in found.kind("failed")] == [("broken", 0)]
    assert {one["name"]: one["missing"] for one in found.kind("subject")}["absent"] == "not installed"
    assert found.subjects() == ["bind"]
    assert found.one("end")["samples"] >= 2


def test_a_case_that_writes_leaves_the_layers_alone(scratch: Path) -> None:
    layers = build("tiny", 3, scratch / "cache")
    before = sorted(path.relative_to(scratch) for path in (scratch / "cache/trees").rglob("*"))
    found = plan(scratch, Bind(), KernelOverlay(), question=Writing())
    assert len(list(found.kind("sample"))) == 4
    assert sorted(path.relative_to(scratch) for path in (scratch / "cache/trees").rglob("*")) == before
    assert layers.count == 200


def test_what_there_is_no_time_for_is_said(scratch: Path) -> None:
    found = plan(scratch, Bind(), KernelOverlay(), budget=0.01)
    assert [one["subject"] for one in found.kind("skipped")] == ["bind", "kernel-overlay"]
    assert not list(found.kind("sample"))


def test_nothing_stays_behind(scratch: Path) -> None:
    plan(scratch, Bind(), KernelOverlay(), Wrong())
    assert mounts_below(scratch) == []
    assert list((scratch / "cache/run").iterdir()) == []


def test_a_peer_given_by_hand_is_measured(scratch: Path) -> None:
    peer = NamedPeer("mine=mount -t overlay x -o lowerdir={lowers},upperdir={upper},workdir={work} {mountpoint}")
    found = plan(scratch, peer)
    assert found.subjects() == ["mine"]
    assert [one["same"] for one in found.kind("digest")] == [True]


@pytest.mark.parametrize("definition", ["mine", "=mount {mountpoint}", "mine=mount"])
def test_a_peer_without_name_or_mountpoint_is_refused(definition: str) -> None:
    with pytest.raises(BenchError, match="NAME=COMMAND"):
        NamedPeer(definition)


def test_rootless_subjects_are_measured_in_their_own_namespace(scratch: Path, require: Callable[..., None]) -> None:
    require("userns overlay")
    subject = Rootless(KernelOverlay(rootless=True), scratch / "cache")
    found = plan(scratch, subject, question=Writing(), scale=Scale.FULL)
    assert [one["subject"] for one in found.kind("sample")] == ["kernel-overlay-rootless"] * 2
    assert [one["same"] for one in found.kind("digest")] == [True]
    assert subject.holder is None


def test_images_show_the_same_tree_to_all_that_stack_them(scratch: Path, require: Callable[..., None]) -> None:
    require("squashfuse_ll", "mksquashfs", "fuse-overlayfs", "fuse")
    peer = SquashFuse(scratch / "cache", FuseOverlayfs(Path("/usr/bin/fuse-overlayfs")))
    subjects = [Bind(), LoopSquashfs(scratch / "cache"), peer, LayerfsMount("fuse")]
    found = plan(scratch, *subjects, question=Packed())
    assert {one["subject"]: one["same"] for one in found.kind("digest")} == {one.name: True for one in subjects[1:]}
    assert not [*found.kind("failed"), *found.kind("refused")]


def test_rootless_servers_of_images_are_measured_and_end(scratch: Path, require: Callable[..., None]) -> None:
    require("squashfuse_ll", "mksquashfs", "fuse-overlayfs", "fuse", "userns")
    cache = scratch / "cache"
    peer = SquashFuse(cache, FuseOverlayfs(Path("/usr/bin/fuse-overlayfs")))
    found = plan(scratch, Rootless(LayerfsMount("fuse"), cache), Rootless(peer, cache), question=Packed())
    assert [one["same"] for one in found.kind("digest")] == [True, True]
    assert servers(cache) == []


def test_images_are_made_once_and_anew_when_anything_changes(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build("tiny.sqfs", 3, scratch)
    made = [lower.stat().st_mtime_ns for lower in first.lowers]
    assert [lower.stat().st_mtime_ns for lower in build("tiny.sqfs", 3, scratch).lowers] == made
    monkeypatch.setattr(images, "OPTIONS", ("-comp", "gzip"))
    other = build("tiny.sqfs", 3, scratch)
    assert not set(first.lowers) & set(other.lowers)
    assert (other.tree, other.count, other.flat) == ("tiny.sqfs", 200, first.flat)


def test_trees_of_any_layer_count_merge_to_the_same_files(scratch: Path) -> None:
    flat = build("tiny", 1, scratch)
    spread = build("tiny", 4, scratch)
    merged = {path.relative_to(lower): path.read_bytes() for lower in spread.lowers for path in lower.rglob("f*")}
    assert merged == {path.relative_to(flat.flat): path.read_bytes() for path in flat.flat.rglob("f*")}
    assert len(merged) == spread.count == 200


def test_a_shorter_list_of_names_is_a_prefix(scratch: Path) -> None:
    layers = build("tiny", 2, scratch)
    brief = layers.brief(30)
    assert brief.present.read_bytes().split(b"\0")[:-1] == layers.present.read_bytes().split(b"\0")[:30]
    assert (brief.count, layers.brief(10**6)) == (30, layers)
