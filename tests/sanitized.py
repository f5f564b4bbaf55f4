"""Our C compiled with a compiler's sanitizers, for programs that use it in the place of the installed extension.

    python -m tests.ROOM.fuzz PLACE MODULE

is such a program: it works in the directory PLACE, and has `use` load the build at MODULE before it imports its room.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from layerfs.extensions import builder, settings
from tests.host import PROJECT


class Sanitizer(NamedTuple):
    """What the compiler is told, the library that Python must have from its start, and what that is told."""

    flags: tuple[str, ...]
    library: str
    environment: Mapping[str, str]


ADDRESS: Final = Sanitizer(
    ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"), "libasan.so", {"ASAN_OPTIONS": "detect_leaks=0"}
)
# Of the threads that Python itself starts and locks it knows all; of what the interpreter does it sees nothing.
THREAD: Final = Sanitizer(("-fsanitize=thread",), "libtsan.so", {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66"})


def build(name: str, sanitizer: Sanitizer, place: Path) -> str:
    """Build the extension of this name; returns where it is."""
    (extension,) = (each for each in settings(PROJECT) if each["name"] == name)
    ffi = builder(
        PROJECT,
        name,
        sources=[str(PROJECT / source) for source in extension["sources"]],
        include_dirs=[str(PROJECT / directory) for directory in extension["include-dirs"]],
        libraries=extension.get("libraries", []),
        extra_compile_args=[*extension["extra-compile-args"], *sanitizer.flags, "-g", "-O1"],
        extra_link_args=[sanitizer.flags[0]],
    )
    return str(ffi.compile(tmpdir=str(place)))


def run(sanitizer: Sanitizer, program: str, *words: str | os.PathLike[str], patience: float = 200) -> str:
    """Run a program of the tests with the sanitizer's library, and return what it prints; a fault of any kind fails."""
    library = subprocess.run(
        ["gcc", f"-print-file-name={sanitizer.library}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run(
        [sys.executable, "-m", program, *words], cwd=PROJECT, capture_output=True, text=True, check=False,
        timeout=patience, env=os.environ | sanitizer.environment | {"LD_PRELOAD": library},
    )  # fmt: skip
    assert done.returncode == 0, f"{program} {words}:\n{done.stdout}{done.stderr[-6000:]}"
    return done.stdout


def use(name: str, module: str) -> None:
    """Have a package load another build of its extension."""
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
