"""`layerfs plan`: every source, the refusals, and a plan that follows the one before."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Place
from tests.xar.packages import DIAMOND, reals

MODULES: list[dict[str, Any]] = [
    {"name": "base", "bytes": 50_000_000, "probability": 0.01},
    {"name": "lib", "bytes": 20_000_000, "probability": 0.05, "depends": ["base"]},
    {"name": "app", "bytes": 10_000, "probability": 0.9, "depends": ["lib"]},
    {"name": "text\x1b[31m", "bytes": 0, "depends": []},
]


@pytest.fixture
def place(scratch: Path) -> Place:
    write(scratch / "graph.json", MODULES)
    return Place(scratch)


def write(path: Path, modules: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"name": "house", "modules": modules}))


def test_the_text_shows_layers_reasons_and_others(place: Place) -> None:
    text = place.do("plan", "graph.json", "-k", "2")
    first, *rest = text.splitlines()
    assert first.startswith("layer ")
    assert "\x1b" not in text
    assert any(line.startswith("  base ") and "changes in 1.00% of builds" in line for line in rest)
    table = text.partition("expected bytes per build:\n")[2]
    names = [line.split()[0] for line in table.splitlines()]
    assert names == ["plan", "one", "each", "nix", "ostree", "greedy", "hashed"]
    assert "(more than 2 layers)" in table


def test_json_is_what_the_output_holds_and_the_next_plan_reads(place: Place) -> None:
    shown = json.loads(place.do("plan", "graph.json", "-k", "2", "--json", "-o", "plan.json"))
    assert json.loads((place.base / "plan.json").read_text()) == shown
    assert shown["layers"][0]["modules"][0]["name"] == "base"
    assert len(shown["layers"]) == 2
    write(place.base / "graph.json", [*MODULES, {"name": "new", "bytes": 5}])
    again = json.loads(place.do("plan", "graph.json", "-k", "2", "--json", "--previous", "plan.json"))
    assert again["moved_bytes"] == 0
    assert {m["why"].split("; ")[-1] for layer in again["layers"] for m in layer["modules"]} == {
        "new",
        "stays in its layer",
    }


def test_a_history_decides(place: Place) -> None:
    (place.base / "builds.json").write_text(json.dumps({"builds": [["base"]] * 9}))
    shown = json.loads(place.do("plan", "graph.json", "-k", "1", "--json", "--history", "builds.json"))
    assert shown["layers"][0]["probability"] > 0.9


def test_xars_dot_and_dpkg_are_sources(place: Place) -> None:
    reals(place.base, DIAMOND)
    shown = json.loads(place.do("plan", "xar:a.xar", "b.xar", "-k", "3", "--json"))
    names = sorted(m["name"] for layer in shown["layers"] for m in layer["modules"])
    assert names == ["(unowned)", *(f"{n}.xar" for n in "abcdef")]
    assert shown["source"] == {"kind": "xar", "what": str(place.base / "a.xar"), "more": [str(place.base / "b.xar")]}
    (place.base / "graph.dot").write_text('digraph g {\n"//a:b" -> "//a:c"\n}\n')
    (place.base / "a").mkdir()
    (place.base / "a/c").write_text("c")
    sizes = module_sizes(place.do("plan", "dot:graph.dot", "--sizes", ".", "-k", "3", "--json"))
    assert sizes == {"//a:b": 0, "//a:c": 1, "(unowned)": 128}
    (place.base / "r/var/lib/dpkg").mkdir(parents=True)
    (place.base / "r/var/lib/dpkg/status").write_text("Package: a\nStatus: install ok installed\nInstalled-Size: 3\n")
    assert module_sizes(place.do("plan", "dpkg:r", "-k", "3", "--json"))["a"] == 3072


def module_sizes(text: str) -> dict[str, int]:
    return {m["name"]: m["bytes"] for layer in json.loads(text)["layers"] for m in layer["modules"]}


REFUSED: dict[str, tuple[list[dict[str, Any]], list[str], int, str]] = {
    "unknown": ([{"name": "a", "bytes": 1, "depends": ["z"]}], [], 1, "module a of house depends on z, which is unk"),
    "negative": ([{"name": "a", "bytes": -1}], [], 1, "module a of house has a negative size: -1"),
    "twice": ([{"name": "a", "bytes": 1}] * 2, [], 1, "house has two modules named a"),
    "no layers": (MODULES, ["-k", "0"], 1, "a plan has at least one layer, not 0"),
    "too many": (MODULES, ["-k", "513"], 1, "a plan has at most 512 layers, not 513"),
    "other": (MODULES, ["--previous", "other.json"], 1, "other.json is a plan for another graph: house has no module"),
    "absent": (MODULES, ["--previous", "absent.json"], 1, "absent.json: No such file or directory"),
    "sizes": (MODULES, ["--sizes", "."], 2, "--sizes belongs to dot:FILE, which needs it"),
    "price": (MODULES, ["--move-price", "-1"], 2, "--move-price is -1.0"),
    "several": (MODULES, ["two.json"], 2, "two.json is a source too many"),
}


@pytest.mark.parametrize(("modules", "words", "status", "said"), REFUSED.values(), ids=REFUSED)
def test_wrong_input_is_refused_by_name(
    place: Place, modules: list[dict[str, Any]], words: list[str], status: int, said: str
) -> None:
    write(place.base / "other", [{"name": "x", "bytes": 1}])
    place.do("plan", "other", "-k", "1", "-o", "other.json")
    write(place.base / "graph.json", modules)
    done = place.run("plan", "-k", "2", "graph.json", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"layerfs: {said}")
