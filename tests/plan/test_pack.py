"""Layers built from a plan, taken from an earlier pack, or from the cache."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layerfs.errors import AlreadyExists, InvalidArgument, NotFound, Unsupported
from layerfs.plan.cost import Prices
from layerfs.plan.document import describe
from layerfs.plan.pack import Packed, PackOptions, pack
from layerfs.plan.planner import make_plan
from layerfs.plan.record import read_plan, source_of
from layerfs.plan.units import make_units
from layerfs.store.cache import Cache
from tests.host import PROJECT, require
from tests.plan.scenes import opened_source
from tests.plan.trees import make_house, words_of


@pytest.fixture
def house(scratch: Path) -> Path:
    graph = make_house(scratch)
    with opened_source(words_of(graph)) as source:
        units = make_units(source.graph)
    prices = Prices(layer=0)
    shown = describe(units, make_plan(units, 4, prices), 4, prices, source_of(words_of(graph)))
    assert len(shown["layers"]) == 4
    (scratch / "plan.json").write_text(json.dumps(shown))
    return scratch


def packed(house: Path, output: str | None = None, **options: Any) -> Packed:
    plan = read_plan(os.fsencode(house / "plan.json"))
    assert plan.words is not None
    with opened_source(plan.words) as source:
        return pack(
            plan, source, PackOptions(output=(output and os.fsencode(house / output)) or None, level=1, **options)
        )


def origins(found: Packed) -> list[str]:
    return [layer.origin for layer in found.layers]


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["xar", "squashfs", "oci"])
def test_the_same_tree_gives_the_same_bytes_and_one_change_one_layer(house: Path, form: str) -> None:
    first = packed(house, "one", format=form)
    assert origins(first) == ["built"] * 4
    assert origins(packed(house, "two", format=form)) == ["built"] * 4
    assert files(house / "one") == files(house / "two")
    with open(house / "src/lib/one", "r+b") as file:
        file.write(b"changed")
    third = packed(house, "three", format=form, previous=os.fsencode(house / "one"))
    assert sorted(origins(third)) == ["built", "previous", "previous", "previous"]
    packed(house, "four", format=form)
    assert files(house / "three") == files(house / "four")
    same = [a.record == b.record for a, b in zip(first.layers, third.layers, strict=True)]
    assert same == [origin == "previous" for origin in origins(third)]


def test_a_damaged_file_of_the_previous_pack_is_built_again(house: Path) -> None:
    packed(house, "one")
    victim = next((house / "one").glob("layer-*.xar"))
    victim.write_bytes(victim.read_bytes()[:-1])
    second = packed(house, "two", previous=os.fsencode(house / "one"))
    assert {layer.record.file: layer.origin for layer in second.layers}[victim.name] == "built"
    assert origins(second).count("previous") == 3


def test_the_cache_keeps_layers_and_gives_them_back(house: Path) -> None:
    cache = Cache(os.fsencode(house / "cache"))
    first = packed(house, cache=cache)
    assert [(layer.origin, layer.cached) for layer in first.layers] == [("built", False)] * 4
    with open(house / "src/lib/one", "r+b") as file:
        file.write(b"changed")
    second = packed(house, "out", cache=cache)
    assert sorted((layer.origin, layer.cached) for layer in second.layers) == [("built", False)] + [("cache", True)] * 3
    top = second.layers[-1].record
    entry = cache.get(os.fsencode(top.file), top.sha256)
    assert entry is not None
    assert entry.depends == {layer.record.file: layer.record.sha256 for layer in second.layers[:-1]}


def test_names_stay_those_of_the_previous_pack(house: Path) -> None:
    packed(house, "one", name="app")
    second = packed(house, "two", previous=os.fsencode(house / "one"))
    assert origins(second) == ["previous"] * 4
    assert [layer.record.file[:4] for layer in second.layers] == ["app-", "app-", "app-", "app."]


def test_a_pack_that_fails_leaves_nothing(house: Path) -> None:
    (house / "full").mkdir()
    (house / "full/x").write_text("x")
    with pytest.raises(AlreadyExists, match="is there, and is no empty directory"):
        packed(house, "full")
    assert files(house / "full") == {"x": b"x"}
    plan = json.loads((house / "plan.json").read_text())
    plan["layers"][0]["modules"].append({"name": "more"})
    (house / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(InvalidArgument, match="has the module more, which house does not have"):
        packed(house, "none")
    assert not (house / "none").exists()
    (house / "empty").mkdir()
    del plan["layers"][0]["modules"][-1]
    (house / "plan.json").write_text(json.dumps(plan))
    (house / "src/etc/void").write_bytes(b"")  # in the topmost layer, which comes last
    os.setxattr(house / "src/etc/void", "user.overlay.whiteout", b"y")
    with pytest.raises(Unsupported, match="/etc/void has an overlay's mark"):
        packed(house, "empty")
    assert list((house / "empty").iterdir()) == []


def test_a_graph_without_a_root_cannot_be_packed(house: Path) -> None:
    graph = house / "graph.json"
    graph.write_text(json.dumps({"name": "house", "modules": [{"name": "a", "bytes": 1}]}))
    with pytest.raises(InvalidArgument, match="it is not known where the files of house are"):
        packed(house, "none")


def refuse_the_last(house: Path) -> None:
    """Put something into the topmost layer, which comes last, that no layer can hold."""
    (house / "src/etc/void").write_bytes(b"")
    os.setxattr(house / "src/etc/void", "user.overlay.whiteout", b"y")


def test_a_pack_that_fails_behind_a_symlink_says_why_and_leaves_nothing(house: Path) -> None:
    """It said ELOOP, and the layers stayed."""
    refuse_the_last(house)
    (house / "real").mkdir()
    (house / "out").symlink_to("real")
    with pytest.raises(Unsupported, match="/etc/void has an overlay's mark"):
        packed(house, "out")
    assert os.readlink(house / "out") == "real"
    assert list((house / "real").iterdir()) == []
    (house / "lost").symlink_to("nowhere")
    with pytest.raises(AlreadyExists, match="lost is there, and is no empty directory"):
        packed(house, "lost")
    assert not (house / "nowhere").exists()


@pytest.mark.parametrize(("owner", "mode"), [(1, 0o755), (0, 0o1777)])
def test_a_directory_in_which_others_could_put_symlinks_is_no_output(house: Path, owner: int, mode: int) -> None:
    require("root")
    (house / "out").mkdir()
    (house / "out").chmod(mode)
    os.chown(house / "out", owner, owner)
    with pytest.raises(InvalidArgument, match="others may write to "):
        packed(house, "out")
    before = os.umask(0)
    try:
        packed(house, "out/new")
    finally:
        os.umask(before)
    assert (house / "out/new").stat().st_mode & 0o777 == 0o755
    assert (house / "out/new/pack.json").exists()


@pytest.mark.parametrize("form", ["xar", "squashfs", "oci"])
@pytest.mark.parametrize("fails", [False, True], ids=["whole", "fails"])
def test_layers_go_into_the_directory_that_was_opened_wherever_its_name_leads(
    house: Path, form: str, fails: bool
) -> None:
    """Who may write to the directory above could lead the layers, and the removal of a pack that fails, elsewhere."""
    (house / "above/elsewhere").mkdir(parents=True)
    (house / "above/elsewhere/kept").write_bytes(b"")
    if fails:
        refuse_the_last(house)

    def swap(done: int, total: int) -> None:
        if done == 1:
            (house / "above/out").rename(house / "above/moved")
            (house / "above/out").symlink_to("elsewhere")

    plan = read_plan(os.fsencode(house / "plan.json"))
    assert plan.words is not None
    with opened_source(plan.words) as source:
        options = PackOptions(output=os.fsencode(house / "above/out"), level=1, format=form)
        if fails:
            with pytest.raises(Unsupported, match="/etc/void"):
                pack(plan, source, options, swap)
        else:
            pack(plan, source, options, swap)
    assert list((house / "above/elsewhere").iterdir()) == [house / "above/elsewhere/kept"]
    moved = {name for name in files(house / "above/moved") if "/" not in name}
    assert ("pack.json" in moved) != fails


def test_what_symlinks_of_a_previous_pack_lead_to_gets_no_name(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was copied, for anybody to read, and removed when its digest was known."""
    packed(house, "one")
    victim = next((house / "one").glob("layer-*.xar"))
    (house / "secret").write_bytes(bytes(victim.stat().st_size))
    victim.unlink()
    victim.symlink_to(house / "secret")
    named: list[tuple[bytes, bool]] = []
    rename = os.rename

    def noted(source: bytes, target: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        with open(os.open(source, os.O_RDONLY, dir_fd=src_dir_fd), "rb") as file:
            named.append((target, file.read(9).strip(b"\0") != b""))
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr("layerfs.pysquashfs.target.os.rename", noted)
    second = packed(house, "two", previous=os.fsencode(house / "one"))
    assert {layer.record.file: layer.origin for layer in second.layers}[victim.name] == "built"
    assert sorted(named) == sorted((os.fsencode(name), True) for name in files(house / "two"))


def test_a_pack_that_was_killed_left_whole_layers_and_no_record(house: Path) -> None:
    program = """if True:
        import sys
        from layerfs.plan.pack import PackOptions, pack
        from layerfs.plan.record import read_plan
        from tests.plan.scenes import opened_source
        def told(done, total):
            if done == 2:
                print("half-way", flush=True)
                sys.stdin.read()
        plan = read_plan(b"plan.json")
        with opened_source(plan.words) as source:
            pack(plan, source, PackOptions(output=b"out", level=1), told)
    """
    command = [sys.executable, "-c", program]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=house, env=environment, **pipes) as packing:
        assert packing.stdout is not None
        assert packing.stdout.readline() == b"half-way\n"
        packing.send_signal(signal.SIGKILL)
    left = files(house / "out")
    packed(house, "whole")
    assert len(left) == 2
    assert left.items() <= files(house / "whole").items()
    with pytest.raises(AlreadyExists) as caught:
        packed(house, "out")
    assert caught.value.hint == "name a new one"  # and not that it can be the pack before
    with pytest.raises(NotFound, match="out has no pack"):
        packed(house, "next", previous=os.fsencode(house / "out"))
    assert files(house / "out") == left
