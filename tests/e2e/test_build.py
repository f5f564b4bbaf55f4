"""Compilers and installers: many small files, times that decide what is built, programs run and mapped."""

import base64
import hashlib
import zipfile
from pathlib import Path

from .stage import Stage, Tree, differences

NEEDS = ("make", "gcc", "strip")

PARTS = range(10)
PROJECT: Tree = {
    "Makefile": """CFLAGS = -O1 -fPIC -Iinclude
OBJECTS = $(patsubst src/%.c,out/%.o,$(wildcard src/*.c))
all: out/main
out/main: main.c out/libparts.so out/libparts.a include/parts.h
\t$(CC) $(CFLAGS) -o $@ main.c -Lout -lparts -Wl,-rpath,$(CURDIR)/out
out/libparts.so: $(OBJECTS)
\t$(CC) -shared -o $@ $^
out/libparts.a: $(OBJECTS)
\tar rcs $@ $^
out/%.o: src/%.c include/parts.h
\t@mkdir -p out
\t$(CC) $(CFLAGS) -c -o $@ $<
clean:
\trm -rf out
""",
    "include": {"parts.h": "".join(f"int part{n}(void);\n" for n in PARTS) + "#define BASE 1\n"},
    "src": {f"part{n}.c": f'#include "parts.h"\nint part{n}(void) {{ return BASE * {n}; }}\n' for n in PARTS},
    "main.c": '#include <stdio.h>\n#include "parts.h"\nint main(void) { printf("%d\\n", '
    + " + ".join(f"part{n}()" for n in PARTS)
    + "); return 0; }\n",
}


def test_c_project_in_a_lower_is_built_once_and_again_only_for_what_changed(stage: Stage) -> None:
    lower = stage.layer("lower", {"project": PROJECT})
    before = stage.look(lower)
    union = stage.mount(lower)
    project = union.merged / "project"
    stage.sh("make -s -j2", cwd=project)
    assert stage.run(project / "out/main") == "45\n"
    stage.remount(union)
    assert "Nothing to be done" in stage.sh("make", cwd=project)
    stage.sh("sed -i 's/BASE \\* 3/BASE * 103/' src/part3.c", cwd=project)
    assert stage.sh("make", cwd=project).count(" -c -o ") == 1
    stage.sh("sed -i 's/BASE 1/BASE 2/' include/parts.h && make -s -j2", cwd=project)
    assert stage.run(project / "out/main") == "290\n"
    stage.sh("make -s clean && make -s -j2 && strip out/libparts.so && out/main", cwd=project)
    assert differences(stage.look(lower), before) == {}


def wheel(folder: Path) -> Path:
    """A wheel with a package of many modules and a console script, written by hand (PEP 427)."""
    files = {f"many/part{n}.py": f"VALUE = {n}\n" for n in range(50)}
    files["many/__init__.py"] = "from many import part49\ndef main():\n    print('many', part49.VALUE)\n"
    about = "many-1.0.dist-info"
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: many\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{about}/entry_points.txt"] = "[console_scripts]\nmany = many:main\n"
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for name, text in files.items()}
    files[f"{about}/RECORD"] = "".join(
        f"{name},sha256={digest.rstrip(b'=').decode()},{len(files[name])}\n" for name, digest in digests.items()
    )
    path = folder / "many-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_wheel_is_installed_into_a_lower_virtual_environment_and_removed_again(stage: Stage) -> None:
    """The environment stands in a lower at the path at which it is mounted: a base layer and what pip adds to it."""
    lower = stage.layer("lower", {})
    stage.run("/usr/bin/python3", "-m", "venv", lower / "venv")
    package = wheel(stage.directory("wheels"))
    union = stage.mount(lower)
    python = union.merged / "venv/bin/python"
    stage.run(python, "-m", "pip", "install", "--no-index", "--no-cache-dir", package)
    program = union.merged / "venv/bin/many"
    assert stage.run(program) == "many 49\n"
    stage.remount(union)
    assert stage.run(program) == "many 49\n"
    stage.run(python, "-m", "pip", "uninstall", "--yes", "many", "setuptools")
    stage.remount(union)
    left = stage.sh("find venv -path '*/many*' -o -path '*/site-packages/setuptools*'", cwd=union.merged)
    assert left == ""
    assert "setuptools" not in stage.run(python, "-m", "pip", "list")
