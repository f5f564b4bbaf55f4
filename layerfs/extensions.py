"""Build the C extensions: cffi (API mode) over the C of the packages that have some.

pyproject.toml names `BuildExtension` as setuptools' build_ext, so pip builds the modules with the package. Each is put
together from pairs of files: what Python sees (`HEADERS`, handed to cffi's parser as they are) and the C behind it.
After a change of one of them, in a tree installed by `pip install -e`:

    .venv/bin/python layerfs/extensions.py

which puts the new modules beside their C in one rename each, so that whoever has an old one loaded keeps it.
"""

import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cffi import FFI
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from setuptools import Extension

HEADERS: Final = {
    "layerfs.pysquashfs._squashfs": ("read.h", "write.h"),
    "layerfs.lane._lane": ("lane.h",),
}
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
