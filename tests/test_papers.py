"""README.md, docs/, ARCHITECTURE.md and the package's own map say what is true, and the recipes work as pasted."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import layerfs
from layerfs.cli.parser import VERBS
from layerfs.spec.options import known_options
from tests.host import BIN, PROJECT, Person, require
from tests.test_house import text, tracked
from tests.waiting import PATIENCE


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


def test_modules_that_the_papers_name_are_there() -> None:
    """In backquotes, as `ROOM/MODULE.py`, or as a file of C or a script."""
    named = set(re.findall(r"`([\w.]+/\w+\.(?:py|c|h|sh))\b", "".join(map(text, PAPERS))))
    there = {str(path).removeprefix("layerfs/") for path in tracked()}
    assert {name.removeprefix("layerfs/") for name in named} - there == set()


def test_names_that_the_map_gives_a_newcomer_are_in_the_code() -> None:
    """Under "How to add" and "Where is it?": each word in backquotes that is spelled like a name of the code."""
    guide = text("ARCHITECTURE.md").partition("\n## How to add")[2].partition("\n## Where things went")[0]
    named = set(re.findall(r"`(\w*(?:[a-z][A-Z]|_)\w*|[A-Z]{2,})`", guide))
    code = "".join(text(str(path)) for path in tracked() if path.suffix == ".py" and path.parts[0] != "tests")
    assert {"UnionOptions", "_recognise", "MIGRATIONS", "tear_down"} <= named
    assert {name for name in named if not re.search(rf"\b{name}\b", code)} == set()


def _drawn_rooms(drawing: str) -> Iterator[tuple[str, list[str]]]:
    room = ""
    for line in drawing.splitlines():
        if opened := re.match(r"  (\w+)/", line):
            room = opened.group(1)
        elif line and not line.startswith("   "):
            room = ""
        if room:
            yield room, re.findall(r"\b(\w+\.py)\b", line)


FOR_USERS = ["README.md", *sorted(str(path) for path in tracked() if path.match("docs/*.md"))]
PAPERS = [*FOR_USERS, "ARCHITECTURE.md", "CHANGES.md"]


def shown_commands() -> list[tuple[str, set[str]]]:
    """The `layerfs VERB ... --flags` lines of the papers' fenced blocks: the verb (or two) and its long options."""
    papers = "\n".join(map(text, FOR_USERS))
    blocks = re.findall(r"^```\w*\n(.*?)^```", papers, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    calls = [re.search(r"(?:^|[/ ($])layerfs ((?:(?:xar|cache) )?[a-z]+)\b([^#|;]*)", line) for line in lines]
    return [(call[1], set(re.findall(r"(--[a-z-]+)", call[2].split(" -- ")[0]))) for call in calls if call]


def test_papers_show_only_verbs_and_flags_that_exist() -> None:
    flags: dict[str, set[str]] = {}
    for verb, shown in shown_commands():
        flags.setdefault(verb, set()).update(shown)
    assert {"mount", "run", "status", "umount", "diff", "xar build", "cache add"} <= flags.keys()
    for verb, shown in flags.items():
        words = [str(BIN / "layerfs"), *verb.split(), "--help"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert {flag for flag in shown if flag not in told} == set(), verb


def test_the_table_of_options_names_every_mount_option_once() -> None:
    table = re.findall(r"^\| (`.*?) \|", text("docs/layerfs-mount.md"), re.MULTILINE)
    names = [name for row in table for name in re.findall(r"`([a-z_+]+)(?:=[^`]*)?`", row)]
    assert set(known_options()) - set(names) == set()
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_the_reference_names_every_verb() -> None:
    table = text("docs/layerfs.md").partition("## VERBS")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert set(VERBS) - {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set()


def test_links_between_the_papers_lead_somewhere() -> None:
    missing = []
    for paper in PAPERS:
        for link in re.findall(r"\]\(([^):#]+)[^):]*\)", text(paper)):
            if not (PROJECT / paper).parent.joinpath(link).exists():
                missing.append(f"{paper}: {link}")
    assert missing == []


def test_every_paper_is_found_from_the_readme() -> None:
    assert [paper for paper in PAPERS if paper != "README.md" and f"]({paper})" not in text("README.md")] == []


def test_make_targets_in_the_papers_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", "".join(map(text, PAPERS))))
    assert {"setup", "demo", "test", "check", "bench", "lint"} <= targets
    assert named <= targets


def test_man_pages_say_what_their_papers_say(scratch: Path) -> None:
    """`make man` writes docs/man. Releases of go-md2man differ in their requests, so only words are compared."""
    require("go-md2man")
    subprocess.run(["sh", PROJECT / ".make/man.sh", scratch], check=True, timeout=PATIENCE)
    for page in ("layerfs.1", "layerfs-mount.1"):
        written = text(f"docs/man/{page}")
        assert _words(written) == _words((scratch / page).read_text()), "run `make man`"
        assert [line for line in written.splitlines() if line.startswith(".SH")][:2] == [".SH NAME", ".SH SYNOPSIS"]


def _words(roff: str) -> list[str]:
    """A man page's words, without the requests and fonts."""
    lines = [line for line in roff.splitlines() if not line.startswith(".")]
    return re.findall(r"[\w.=/:]+", re.sub(r"\\f.|\\[&c]", "", "\n".join(lines)))


RECIPES = [
    recipe
    for paper in ("README.md", "docs/xar.md", "docs/plan.md")
    for recipe in re.findall(
        r"^### (.*?)\n.*?^```sh\n(.*?)^```",
        text(paper).partition("\n## Recipes")[2].partition("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
]


def promised(script: str) -> list[str]:
    """What a recipe says it prints: the comments behind `cat`, `ls` and `layerfs diff`, comma by comma."""
    comments = re.findall(r"^(?:cat|ls|layerfs diff)\b[^#\n]*# (.*)$", script, re.MULTILINE)
    return [part.strip() for comment in comments for part in comment.split(",")]


@pytest.mark.mounts
@pytest.mark.parametrize(("title", "script"), RECIPES, ids=[title for title, _ in RECIPES])
def test_recipe_works_as_pasted(title: str, script: str, person: Person, scratch: Path) -> None:
    """Each recipe runs in an empty directory as an unprivileged user whose PATH has layerfs."""
    paste(title, script, person, scratch)


@pytest.mark.mounts
def test_recipes_work_one_after_the_other_in_one_directory(person: Person, scratch: Path) -> None:
    paste("all", "".join(script for _, script in RECIPES), person, scratch)


def paste(title: str, script: str, person: Person, scratch: Path) -> None:
    require("fuse", "userns overlay")
    place = scratch / "recipe"
    person.owns(place)
    done = person.run(["sh", "-euc", script], cwd=place, check=False, timeout=2 * PATIENCE)
    assert done.returncode == 0, f"{title}:\n{done.stdout}{done.stderr}"
    said = " ".join(done.stdout.split())
    assert [words for words in promised(script) if words not in said] == []


def test_readme_has_six_recipes() -> None:
    recipes = text("README.md").partition("\n## Recipes")[2].partition("\n## ")[0]
    assert len(re.findall(r"^### ", recipes, re.MULTILINE)) == 6
    assert len(re.findall(r"^```sh", recipes, re.MULTILINE)) >= 5  # those that need no image of others
