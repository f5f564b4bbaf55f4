"""Build `layerfs.pysquashfs._squashfs`, the one C extension: cffi (API mode) over libsquashfs and the C beside it.

pyproject.toml names `BuildExtension` as setuptools' build_ext, so pip builds the module with the package. It is put
together from pairs of files: what Python sees (`*.h`, handed to cffi's parser as they are) and the C behind it (`*.c`).
After a change of one of them, in a tree installed by `pip install -e`:

    .venv/bin/python layerfs/pysquashfs/build.py

which puts the new module beside this file in one rename, so that whoever has the old one loaded keeps it.
"""

import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cffi import FFI
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from setuptools import Extension

MODULE = "layerfs.pysquashfs._squashfs"
ROOM = Path("layerfs", "pysquashfs")
HEADERS = ("read.h", "write.h")


def builder(root: Path, **settings: Any) -> FFI:
    """Return cffi's builder of the module whose files are in the tree at `root`; `settings` are an Extension's."""
    ffi = FFI()
    for header in HEADERS:
        ffi.cdef((root / ROOM / header).read_text())
    ffi.set_source(MODULE, "".join(f'#include "{header}"\n' for header in ("common.h", *HEADERS)), **settings)
    return ffi


class BuildExtension(build_ext):  # type: ignore[misc]
    """setuptools' build_ext, which has cffi write its part of the source first."""

    def build_extension(self, extension: "Extension") -> None:
        """Build the one extension there is. setuptools runs this in the tree's root."""
        generated = Path(self.build_temp, "_squashfs.c")
        generated.parent.mkdir(parents=True, exist_ok=True)
        builder(Path()).emit_c_code(str(generated))
        extension.sources = [str(generated), *extension.sources]
        super().build_extension(extension)


def rebuild(root: Path) -> Path:
    """Build the module with pyproject.toml's settings and put it into the tree at `root`; returns where it is."""
    (extension,) = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    scratch = root / "build"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        ffi = builder(
            root,
            sources=[str(root / source) for source in extension["sources"]],
            include_dirs=[str(root / directory) for directory in extension["include-dirs"]],
            libraries=extension["libraries"],
            extra_compile_args=extension["extra-compile-args"],
        )
        # pip's name for it; the one that cffi gives would be preferred by imports even when it is old.
        return Path(ffi.compile(tmpdir=place)).replace(root / ROOM / "_squashfs.abi3.so")


if __name__ == "__main__":
    print(rebuild(Path(__file__).resolve().parents[2]))
