"""Build the C extensions: cffi (API mode) over the C of the packages that have some.

pyproject.toml names `BuildExtension` as setuptools' build_ext, so pip builds the modules with the package. Each is put
together from pairs of files: what Python sees (`HEADERS`, handed to cffi's parser as they are) and the C behind it.
After a change of one of them, in a tree installed by `pip install -e`:

    .venv/bin/python layerfs/extensions.py

which puts the new modules beside their C in one rename each, so that whoever has an old one loaded keeps it.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cffi import FFI
from setuptools import Command
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from setuptools import Extension

HEADERS: Final = {
    "layerfs.pysquashfs._squashfs": ("read.h", "write.h"),
    "layerfs.lane._lane": ("lane.h",),
    "layerfs.batch._batch": ("batch.h",),
}
PROGRAM: Final = Path("layerfs", "cli", "program.c")
PROGRAM_FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-s")
PROGRAMS: Final = ("layerfs", "layerfs-mount")
_FIRST: Final = ("<stddef.h>", "<stdint.h>")  # cffi knows these types by itself


def room_of(module: str) -> Path:
    """Return the package that a module belongs to, as a path."""
    return Path(*module.split(".")[:-1])


def builder(root: Path, module: str, **settings: Any) -> FFI:
    """Return cffi's builder of a module whose files are in the tree at `root`; `settings` are an Extension's."""
    ffi = FFI()
    for header in HEADERS[module]:
        ffi.cdef((root / room_of(module) / header).read_text())
    included = [*_FIRST, *(f'"{header}"' for header in HEADERS[module])]
    ffi.set_source(module, "".join(f"#include {header}\n" for header in included), **settings)
    return ffi


class BuildExtension(build_ext):  # type: ignore[misc]
    """setuptools' build_ext, which has cffi write its part of the source first."""

    def build_extension(self, extension: "Extension") -> None:
        """Build one extension. setuptools runs this in the tree's root."""
        generated = Path(self.build_temp, extension.name.rpartition(".")[2] + ".c")
        generated.parent.mkdir(parents=True, exist_ok=True)
        builder(Path(), extension.name).emit_c_code(str(generated))
        extension.sources = [str(generated), *extension.sources]
        super().build_extension(extension)


class BuildPrograms(Command):  # type: ignore[misc]
    """Takes the place of setuptools' build_scripts: compiles our one program instead of copying its source."""

    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        """Begin without options."""
        self.build_dir: str | None = None
        self.executable = None

    def finalize_options(self) -> None:
        """Learn where the scripts are installed from."""
        self.set_undefined_options("build", ("build_scripts", "build_dir"))

    def get_source_files(self) -> list[str]:
        """Name what a source distribution must have."""
        return [str(PROGRAM)]

    def run(self) -> None:
        """Put the programs into the directory. setuptools runs this in the tree's root."""
        place = Path(str(self.build_dir))
        place.mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            compile_program(Path(), place / name)


def compile_program(root: Path, target: Path) -> None:
    """Compile the program of the tree at `root`; `target` is replaced in one step, since it may be running."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = shlex.split(" ".join(os.environ.get(name, "") for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS")))
    new = target.with_name(f".{target.name}.new")
    subprocess.run([*compiler, *PROGRAM_FLAGS, *flags, "-o", new, root / PROGRAM], check=True)
    new.replace(target)


def rebuild(root: Path, extension: dict[str, Any]) -> Path:
    """Build a module with pyproject.toml's settings and put it into the tree at `root`; returns where it is."""
    module = extension["name"]
    scratch = root / "build"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        ffi = builder(
            root,
            module,
            sources=[str(root / source) for source in extension["sources"]],
            include_dirs=[str(root / directory) for directory in extension["include-dirs"]],
            libraries=extension.get("libraries", []),
            extra_compile_args=extension["extra-compile-args"],
        )
        # pip's name for it; the one that cffi gives would be preferred by imports even when it is old.
        return Path(ffi.compile(tmpdir=place)).replace(root / room_of(module) / f"{module.rpartition('.')[2]}.abi3.so")


def settings(root: Path) -> list[dict[str, Any]]:
    """Return what pyproject.toml says of each extension."""
    extensions: list[dict[str, Any]] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"][
        "ext-modules"
    ]
    return extensions


if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[1]
    for each in settings(ROOT):
        print(rebuild(ROOT, each))
    for program in PROGRAMS:
        compile_program(ROOT, Path(sys.executable).with_name(program))
        print(Path(sys.executable).with_name(program))
