"""The names in a layer: paths clamped into its root, and the names that are marks and not files (layer.md)."""

from typing import Final

from layerfs.errors import Corrupt

WH: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
AUFS: Final = b".wh..wh."  # aufs's own files; nothing in them is shown
LINKS: Final = b".wh..wh.plnk"  # in aufs's root: files that hard links take their content from


def clamp(path: bytes) -> bytes:
    """Return a path from the root without `.`, `..`, and doubled or outer slashes; the root itself is empty.

    `..` takes back what stands before it, as all peers read it, and never leads out.
    """
    if b"/" not in path and path not in (b".", b".."):
        return path
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def split(path: bytes) -> tuple[bytes, bytes]:
    """Return the path of the directory that a path is in, and its name there."""
    above, _, name = path.rpartition(b"/")
    return above, name


def hidden_name(name: bytes, path: bytes) -> bytes:
    """Return which name a whiteout hides; Corrupt if it is none that can be hidden."""
    hidden = name[len(WH) :]
    if hidden in (b"", b".", b".."):
        raise Corrupt(f"the layer has a whiteout of no name: {path!r}")
    return hidden
