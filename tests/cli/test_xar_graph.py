"""`layerfs xar graph`, and mounts of XARs with what they depend on: diamonds, conflicts, refusals."""

import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from layerfs.mounts.packages import SHOWN
from tests.cli.conftest import Place
from tests.host import Person, require
from tests.xar.packages import DIAMOND, fake, fakes, real, reals

TREE = """\
a.xar 1
├─ b.xar 1
│  └─ d.xar 1
│     └─ f.xar 1
└─ c.xar 1
   └─ e.xar 1
      └─ f.xar 1
"""


@pytest.fixture
def place(scratch: Path) -> Place:
    """The diamond, in XARs that only their headers can be read of."""
    return Place(fakes(scratch / "place", DIAMOND))


def graph(place: Place, *words: str | Path) -> str:
    return place.do("xar", "graph", "--no-conflicts", *words)


def test_text_is_a_tree_and_the_stack(place: Place) -> None:
    stack = "".join(f"  {place.base}/{name}.xar\n" for name in "abdcef")
    assert graph(place, "a.xar") == f"{TREE}\nstack, top first:\n{stack}"


def test_what_was_shown_with_its_dependencies_is_shown_once(place: Place) -> None:
    fake(place.base, "b", ["d", "e"])
    assert "│  └─ e.xar 1\n│     └─ f.xar 1\n└─ c.xar 1\n   └─ e.xar 1 (see above)\n" in graph(place, "a.xar")


def test_another_name_for_a_package_is_told(place: Place) -> None:
    (place.base / "d.xar").unlink()
    (place.base / "d.xar").symlink_to("f.xar")
    assert "d.xar = f.xar 1" in graph(place, "e.xar", "b.xar")


def test_json_has_all_that_is_documented(place: Place) -> None:
    (place.base / "dir").mkdir()
    shown = json.loads(graph(place, "a.xar", "dir", "--format", "json"))
    assert shown["order"] == [*(f"{place.base}/{name}.xar" for name in "abdcef"), f"{place.base}/dir"]
    assert shown["conflicts"] is None
    packages = {package["name"]: package for package in shown["packages"]}
    first, last = packages["a.xar"], packages["dir"]
    assert re.fullmatch("[0-9a-f]{64}", first.pop("digest"))
    assert first == {
        "name": "a.xar",
        "path": f"{place.base}/a.xar",
        "version": "1",
        "uuid": "8f583eae",
        "size": 4101,
        "depends": ["b.xar", "c.xar"],
        "given": True,
    }
    assert (last["digest"], last["size"], last["version"], last["depends"]) == (None, None, None, [])
    assert not packages["f.xar"]["given"]


def test_dot_and_svg_take_any_name(place: Place) -> None:
    require("dot")
    odd = 'q"u\\o<t>&\nN'
    fake(place.base, odd, ["f"])
    dot = graph(place, f"{odd}.xar", "--format", "dot")
    assert 'n0 [label="q\\"u\\\\o<t>&\\\\nN.xar 1", style=bold]' in dot
    assert "n0 -> n1\n" in dot
    graph(place, f"{odd}.xar", "--format=svg", "-o", "graph.svg")
    drawing = ElementTree.parse(place.base / "graph.svg")
    texts = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ['q"u\\o<t>&\\nN.xar 1', "f.xar 1"]


def test_svg_without_graphviz_says_what_to_install(place: Place) -> None:
    done = place.run("xar", "graph", "f.xar", "--format=svg", "--no-conflicts", env={"PATH": "/nonexistent"})
    assert done.returncode == 1
    assert done.stderr == (
        "layerfs: drawing takes Graphviz, whose program dot is not on PATH "
        "(hint: install graphviz, or take --format=dot)\n"
    )


def test_deep_chain_is_drawn(place: Place) -> None:
    fakes(place.base, {f"p{n}": [f"p{n + 1}"] if n < 999 else [] for n in range(1000)})
    assert len(graph(place, "p0.xar").splitlines()) == 2002


REFUSED = {
    "cycle": ({"f": ["a"]}, "packages depend on each other in a circle: a.xar -> b.xar -> d.xar -> f.xar -> a.xar"),
    "missing": ({"f": ["g"]}, "there is no g.xar, which f.xar depends on; searched: "),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("verb", ["graph", "mount", "helper", "run"])
def test_refusal_names_the_packages(place: Place, change: dict[str, list[str]], said: str, verb: str) -> None:
    fakes(place.base, change)
    place.mnt.mkdir()
    words = {
        "graph": "layerfs xar graph a.xar",
        "mount": "layerfs mount a.xar mnt",
        "helper": "layerfs-mount -o lowerdir=a.xar mnt",
        "run": "layerfs run a.xar -- ls",
    }
    program, *rest = words[verb].split()
    done = place.run(*rest, program=program)
    assert done.returncode == 1
    assert done.stderr.startswith(f"layerfs: {said}")
    assert "(hint: " in done.stderr


@pytest.fixture(params=["root", "person"])
def diamond(request: pytest.FixtureRequest, scratch: Path, person: Person) -> Place:
    """The diamond, ready to be mounted by root or by a person: `which` differs in all, `same` does not."""
    require("fuse", "mksquashfs", *(("root",) if request.param == "root" else ()))
    owner = person if request.param == "person" else None
    place = Place(reals(scratch / "place", DIAMOND), owner)
    place.mnt.mkdir()
    if owner:
        owner.owns(place.base, place.mnt)
    return place


def seen(place: Place) -> tuple[str, list[str]]:
    """Whose `which` is seen, and what is in `lib`, as the owner sees it."""
    command = ["sh", "-c", "cat mnt/which; echo; ls mnt/lib"]
    if place.person is None:
        text = subprocess.run(command, cwd=place.base, check=True, capture_output=True, text=True).stdout
    else:
        text = place.person.run(command, cwd=place.base).stdout
    which, *names = text.split()
    return which, names


WARNING = "layerfs: warning: /which of a.xar hides that of b.xar, d.xar, c.xar, e.xar, f.xar\n"


@pytest.mark.parametrize("driver", ["fuse", "auto"])
def test_diamond_is_mounted_as_one_tree(diamond: Place, driver: str) -> None:
    done = diamond.run("mount", "a.xar", "mnt", "--driver", driver)
    assert (done.returncode, done.stderr) == (0, WARNING)
    assert seen(diamond) == ("a", list("abcdef"))
    assert diamond.status()["layers"] == [f"{diamond.base}/{name}.xar" for name in "abdcef"]
    diamond.do("umount", "mnt")


def test_upper_directories_and_given_dependencies_keep_their_places(diamond: Place) -> None:
    for path in (diamond.base / "dir/lib", diamond.upper):
        path.mkdir(parents=True)
    (diamond.base / "dir/which").write_text("dir")
    if diamond.person:
        diamond.person.owns(diamond.base / "dir", diamond.base / "dir/lib", diamond.upper)
    diamond.do("mount", "-q", "dir", "a.xar", "f.xar", "mnt", "--upper", "upper", "--driver", "fuse")
    assert seen(diamond) == ("dir", list("abcdef"))
    assert [os.path.basename(layer) for layer in diamond.status()["layers"]] == ["dir", *(f"{n}.xar" for n in "abdcef")]
    diamond.do("umount", "mnt")


def test_without_dependencies_the_package_is_alone(diamond: Place) -> None:
    diamond.do("mount", "--no-deps", "a.xar", "mnt", "--driver", "fuse")
    assert seen(diamond) == ("a", ["a"])
    diamond.do("umount", "mnt")


def test_helper_and_run_do_the_same(diamond: Place) -> None:
    done = diamond.run("-o", "lowerdir=a.xar", "mnt", program="layerfs-mount")
    assert (done.returncode, done.stderr) == (0, WARNING)
    assert seen(diamond) == ("a", list("abcdef"))
    diamond.do("umount", "mnt")
    done = diamond.run("run", "a.xar", "--", "ls", "lib")
    assert (done.returncode, done.stderr) == (0, WARNING)
    assert done.stdout.split() == list("abcdef")
    assert diamond.do("run", "-q", "--no-deps", "a.xar", "--", "ls", "lib") == "a\n"


def test_conflicts_are_shown_by_graph_and_many_are_counted_by_mount(scratch: Path) -> None:
    require("root", "fuse", "mksquashfs")
    place = Place(scratch)
    files = [f"file{n:02}" for n in range(SHOWN + 3)]
    for name, depends in {"a": ["b"], "b": []}.items():
        real(scratch, name, {"equal": "e", **dict.fromkeys(files, name)}, depends)
    place.mnt.mkdir()
    done = place.run("mount", "--driver=fuse", "a.xar", "mnt")
    lines = done.stderr.splitlines()
    assert lines[0] == "layerfs: warning: /file00 of a.xar hides that of b.xar"
    assert lines[SHOWN:] == ["layerfs: warning: and 3 more files (`layerfs xar graph` shows them)"]
    place.do("umount", "mnt")
    text = place.do("xar", "graph", "a.xar")
    assert "files that several packages provide:\n  /file00 of a.xar hides that of b.xar\n" in text
    assert text.endswith("  /equal equal in a.xar hides that of b.xar\n")
    found = json.loads(place.do("xar", "graph", "a.xar", "--format=json"))["conflicts"]
    assert found[0] == {"file": "/file00", "packages": [f"{scratch}/a.xar", f"{scratch}/b.xar"], "equal": False}
    assert "hides 13 files" in place.do("xar", "graph", "a.xar", "--format=dot")
    (scratch / "b.xar").rename(scratch / "c.xar")
    real(scratch, "a", {"file": "a"})
    real(scratch, "b", {"file": "b"})
    assert "/file of b.xar hides that of a.xar" in place.do("xar", "graph", "b.xar", "a.xar")
    assert place.do("mount", "--driver=fuse", "a.xar", "b.xar", "mnt") == "", "who names both means it"
    place.do("umount", "mnt")
