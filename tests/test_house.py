"""The house is in order: linters, contracts, sizes, and what lies at the top. The papers are in test_papers.py.

What is checked is what git tracks, and what is new and not ignored; in a tree without git, every file.
"""

import ast
import configparser
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.host import BIN, PROJECT

MODULE_LINES, FUNCTION_LINES = 400, 60
TOP = {
    "layerfs", "snapshotters", "benchmarks", "tests", "docs",
    "pyproject.toml", "setup.cfg", "Makefile", "README.md", "ARCHITECTURE.md", "CHANGES.md", "LICENSE",
}  # fmt: skip
# Registries are the host's affair (apt's sources, pip's configuration). In halves, so that this file names none either.
REGISTRIES = [
    f"{name}.{domain}"
    for domain, names in {
        "org": "pypi pythonhosted deb.debian ftp.debian security.debian snapshot.debian npmjs proxy.golang",
        "io": "crates docker quay ghcr gcr",
        "com": "archive.ubuntu",
    }.items()
    for name in names.split()
]
# Where this project was begun; in halves for the same reason.
OUTSIDE = ["/work" + "/main", "/work" + "/shared", "../" + "shared", "/tmp" + "/s/"]
# Class names that stand twice and mean one thing: a protocol for a class of another room, a question of the benchmarks,
# a table of a report beside one of nodes.
SAME_MEANING = {"Application", "Cache", "CacheEntry", "Idle", "Mount", "Open", "Rules", "Table"}


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the project, relative to its root."""
    git = ["git", "-c", "safe.directory=*", "-C", str(PROJECT)]
    if (PROJECT / ".git").exists():
        listed = subprocess.run(
            [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True
        ).stdout.decode()
        names = [Path(name) for name in listed.split("\0") if name]
    else:
        names = [path.relative_to(PROJECT) for path in PROJECT.rglob("*") if "__pycache__" not in path.parts]
    return tuple(sorted(name for name in names if (PROJECT / name).is_file()))


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def text(name: str) -> str:
    return (PROJECT / name).read_text()


def run_tool(*command: str) -> None:
    """Run one of the environment's programs in the project; its complaints are the failure."""
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("mypy",), ("lint-imports", "--no-cache")],
    ids=["ruff", "mypy", "import-linter"],
)
def test_linter_has_nothing_to_say(command: tuple[str, ...]) -> None:
    run_tool(*command)


def test_mypy_is_strict_about_every_package() -> None:
    settings = tomllib.loads(text("pyproject.toml"))["tool"]["mypy"]
    assert settings["strict"] is True
    assert {"layerfs", "snapshotters", "benchmarks", "tests"} <= set(settings["files"])
    loosened = [key for override in settings.get("overrides", []) for key in override if key != "module"]
    assert set(loosened) <= {"ignore_missing_imports"}


def test_setup_cfg_holds_only_import_contracts_and_pyproject_none() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(PROJECT / "setup.cfg")
    assert all(section.split(":")[0] == "importlinter" for section in contracts.sections())
    assert "importlinter" not in tomllib.loads(text("pyproject.toml"))["tool"]


def test_modules_are_small() -> None:
    lines = {str(path): len((PROJECT / path).read_text().splitlines()) for path in python_files()}
    assert {path: count for path, count in lines.items() if count > MODULE_LINES} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length [lines, decorators and docstring included] of each function in a file."""
    for node in ast.walk(ast.parse((PROJECT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield f"{path}:{node.name}", (node.end_lineno or first) - first + 1


def test_functions_are_short() -> None:
    lengths = dict(pair for path in python_files() for pair in functions(path))
    assert {name: count for name, count in lengths.items() if count > FUNCTION_LINES} == {}


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """What a module imports as it runs: at its top or in a function, but not for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(node.orelse, []))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from imports(node)


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {module_of(path): path for path in python_files() if path.parts[0] in {"layerfs", "snapshotters"}}
    found = {name: set(imports(ast.parse((PROJECT / path).read_text()))) & paths.keys() for name, path in paths.items()}
    needs = {
        name: {other for other in others if not any(deeper.startswith(f"{other}.") for deeper in others)} - {name}
        for name, others in found.items()
    }
    TopologicalSorter(needs).prepare()  # a CycleError names the circle
    assert "layerfs.union.inodes" in needs["layerfs.union.state"]


def test_modules_say_what_they_are() -> None:
    silent = [
        str(path)
        for path in python_files()
        if (source := (PROJECT / path).read_text()).strip() and ast.get_docstring(ast.parse(source)) is None
    ]
    assert silent == []


def test_every_module_has_a_mirror_among_the_tests() -> None:
    """A module's tests are found by its name: layerfs/ROOM/MODULE.py in tests/ROOM/test_MODULE.py."""
    files = set(tracked())
    modules = [path for path in files if path.parts[0] == "layerfs" and path.suffix == ".py" and len(path.parts) == 3]
    lacking = {
        f"{path.parts[1]} {path.stem}"
        for path in modules
        if path.stem != "__init__" and Path("tests", path.parts[1], f"test_{path.name}") not in files
    }
    assert lacking == set(), "write tests/ROOM/test_MODULE.py for these"


def test_a_class_name_has_one_meaning() -> None:
    """In layerfs, snapshotters and benchmarks together; private names belong to their module."""
    places: dict[str, list[str]] = {}
    for path in python_files():
        if path.parts[0] != "tests":
            for node in ast.parse((PROJECT / path).read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in SAME_MEANING} == {}


def test_top_level_holds_only_what_the_map_shows() -> None:
    assert {path.parts[0] for path in tracked() if not path.parts[0].startswith(".")} <= TOP


@pytest.mark.parametrize(
    ("reason", "words"), [("names a registry host", REGISTRIES), ("depends on a place outside", OUTSIDE)]
)
def test_no_tracked_file(reason: str, words: list[str]) -> None:
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(word)}" for word in words))
    found = {}
    for path in tracked():
        content = (PROJECT / path).read_bytes().decode("utf-8", "replace")
        if hit := pattern.search(content):
            found[str(path)] = hit.group()
    assert found == {}, reason


def test_make_clean_removes_all_that_git_ignores() -> None:
    recipe = text("Makefile").partition("\nclean:\n")[2]
    ignored = [line.rstrip("/") for line in text(".gitignore").splitlines() if line]
    assert [name for name in ignored if name not in recipe] == []


def test_console_scripts_exist() -> None:
    for target in tomllib.loads(text("pyproject.toml"))["project"]["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_mounting_imports_nothing_heavy() -> None:
    """`layerfs mount` answers within 60 ms because trio and pyfuse3 are imported by the server, after the mount."""
    program = "import sys, layerfs.cli.mount, layerfs.cli.mount_helper, layerfs.mounts.launch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"trio", "pyfuse3", "asyncio", "rich", "shtab", "multiprocessing"} == set()
