"""Names of images: `HOST/REPOSITORY[:TAG][@DIGEST]`, with the grammar that registries have (distribution's reference).

No registry is built in: the name that is pulled or pushed has the host, or LAYERFS_REGISTRY names it.
"""

import os
import re
from typing import Final

from layerfs.errors import InvalidArgument
from layerfs.oci.digest import Digest, parse_digest
from layerfs.value import value

REGISTRY: Final = "LAYERFS_REGISTRY"
LATEST: Final = "latest"
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_WELL_FORMED: Final = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<repository>{_PART}(?:/{_PART})*)(?::(?P<tag>[\w][\w.-]{{0,127}}))?(?:@(?P<digest>.+))?",
    re.ASCII,
)
_LONGEST: Final = 255  # characters; distribution's NameTotalLengthMax


@value
class Reference:
    """One parsed name. `host` is empty where none is said."""

    host: str
    repository: str
    tag: str
    digest: Digest | None = None

    def __str__(self) -> str:
        """Return the name with its tag, or with its digest where it has no tag."""
        base = f"{self.host}/{self.repository}" if self.host else self.repository
        return f"{base}:{self.tag}" if self.tag or not self.digest else f"{base}@{self.digest}"

    @property
    def what(self) -> str:
        """What a registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag


def parse_reference(text: str) -> Reference:
    """Parse a name; `latest` is the tag where neither tag nor digest is given. Raises InvalidArgument."""
    match = _WELL_FORMED.fullmatch(text) if len(text) <= _LONGEST + 200 else None
    if match is None or len(match["repository"]) > _LONGEST:
        raise InvalidArgument(f"not the name of an image: {text[:200]!r}", "such as HOST/REPOSITORY:TAG, in lower case")
    host, repository = match["host"] or "", match["repository"]
    if host and not _is_host(host):
        host, repository = "", f"{host}/{repository}"
        if not re.fullmatch(rf"{_PART}(?:/{_PART})*", repository):
            raise InvalidArgument(f"not the name of an image: {text[:200]!r}", "repositories are in lower case")
    digest = parse_digest(match["digest"]) if match["digest"] else None
    return Reference(host, repository, match["tag"] or ("" if digest else LATEST), digest)


def _is_host(text: str) -> bool:
    """Tell a registry from the first part of a repository, as all tools do."""
    return text == "localhost" or text.startswith("[") or "." in text or ":" in text


def remote_reference(text: str) -> Reference:
    """Parse the name of an image in a registry. Raises InvalidArgument if no registry is named."""
    found = parse_reference(text)
    if found.host:
        return found
    host = os.environ.get(REGISTRY, "")
    if not host:
        raise InvalidArgument(f"{text} names no registry", f"write HOST/{text}, or set {REGISTRY}")
    return Reference(host, found.repository, found.tag, found.digest)
