"""README.md, ARCHITECTURE.md and the package's own map say what is true, and README's recipes work as pasted."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import layerfs
from layerfs.spec.options import known_options
from tests.host import BIN, Person, require
from tests.test_house import text, tracked


def rooms() -> set[str]:
    return {path.parts[1] for path in tracked() if path.parts[0] == "layerfs" and len(path.parts) > 2}


def test_map_in_the_package_names_every_room() -> None:
    drawn = set(re.findall(r"^    (\w+)  ", layerfs.__doc__ or "", re.MULTILINE))
    assert rooms() <= drawn


def test_architecture_names_every_module_and_no_other() -> None:
    """Under "Rooms": each line of the drawing is `ROOM/ what it is` and then module names."""
    drawing = text("ARCHITECTURE.md").split("\n```")[1]
    drawn = {f"{room}/{name}" for room, names in _drawn_rooms(drawing) for name in names}
    there = {
        f"{path.parts[1]}/{path.name}"
        for path in tracked()
        if path.parts[0] == "layerfs" and len(path.parts) == 3 and path.suffix == ".py" and path.name != "__init__.py"
    }
    assert drawn - there == set(), "drawn, but not there"
    assert there - drawn == set(), "there, but not drawn"


def _drawn_rooms(drawing: str) -> Iterator[tuple[str, list[str]]]:
    room = ""
    for line in drawing.splitlines():
        if opened := re.match(r"  (\w+)/", line):
            room = opened.group(1)
        elif line and not line.startswith("   "):
            room = ""
        if room:
            yield room, re.findall(r"\b(\w+\.py)\b", line)


def readme_commands() -> list[tuple[str, set[str]]]:
    """The `layerfs VERB ... --flags` lines of README's fenced blocks: the verb (or two) and its long options."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    calls = [re.search(r"(?:^|[/ ($])layerfs ((?:(?:xar|cache) )?[a-z]+)\b([^#|;]*)", line) for line in lines]
    return [(call[1], set(re.findall(r"(--[a-z-]+)", call[2].split(" -- ")[0]))) for call in calls if call]


def test_readme_shows_only_verbs_and_flags_that_exist() -> None:
    shown = readme_commands()
    assert {"mount", "run", "status", "umount", "diff", "doctor"} <= {verb for verb, _ in shown}
    for verb, flags in shown:
        words = [str(BIN / "layerfs"), *verb.split(), "--help"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert {flag for flag in flags if flag not in told} == set(), verb


def test_readme_table_names_every_mount_option() -> None:
    named = set(re.findall(r"`([a-z_+]+)(?:=[^`]*)?`", text("README.md")))
    assert set(known_options()) - named == set()


def test_make_targets_in_the_papers_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", text("README.md") + text("ARCHITECTURE.md")))
    assert {"setup", "demo", "test", "bench", "lint"} <= targets
    assert named <= targets


RECIPES = re.findall(
    r"^### (.*?)\n.*?^```sh\n(.*?)^```", text("README.md").partition("## Recipes")[2], re.MULTILINE | re.DOTALL
)


def promised(script: str) -> list[str]:
    """What a recipe says it prints: the comments behind `cat`, `ls` and `layerfs diff`, comma by comma."""
    comments = re.findall(r"^(?:cat|ls|layerfs diff)\b[^#\n]*# (.*)$", script, re.MULTILINE)
    return [part.strip() for comment in comments for part in comment.split(",")]


@pytest.mark.parametrize(("title", "script"), RECIPES, ids=[title for title, _ in RECIPES])
def test_recipe_works_as_pasted(title: str, script: str, person: Person, scratch: Path) -> None:
    """Each recipe runs in an empty directory as an unprivileged user whose PATH has layerfs."""
    require("fuse", "userns overlay")
    place = scratch / "recipe"
    person.owns(place)
    done = person.run(["sh", "-euc", script], cwd=place, check=False)
    assert done.returncode == 0, f"{title}:\n{done.stdout}{done.stderr}"
    said = " ".join(done.stdout.split())
    assert [words for words in promised(script) if words not in said] == []


def test_readme_has_five_recipes() -> None:
    assert len(re.findall(r"^### ", text("README.md").partition("## Recipes")[2], re.MULTILINE)) >= 5
    assert len(RECIPES) >= 4  # those that need no image and no root
