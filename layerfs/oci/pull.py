"""Blobs of a registry into a store: with flat memory, tried again, and gone on with where they broke off.

Bytes are joined only when the registry says that it sends just those that follow (206 with the right range and length);
anything else begins again. What was put together is checked by its digest, so a blob that changed meanwhile is refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from urllib3.exceptions import HTTPError

from layerfs.errors import Corrupt
from layerfs.oci.connect import Interrupted
from layerfs.oci.digest import Digest
from layerfs.oci.documents import INDEXES, MANIFESTS, Descriptor
from layerfs.oci.parallel import Stop
from layerfs.oci.registry import Registry
from layerfs.oci.transport import TRIES, Response, backoff
from layerfs.store.content import Taking

PIECE: Final = 256 << 10  # bytes
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Remote:
    """The blobs of a repository."""

    registry: Registry
    stop: Stop = field(default_factory=Stop)

    def has(self, digest: Digest) -> bool:
        """Say yes without asking: `fill` fetches the blob anyway, and raises if it is not there."""
        return True

    def fill(self, wanted: Descriptor, taking: Taking, told: Callable[[int], None]) -> None:
        """Fetch a blob, or a manifest."""
        if wanted.media_type in INDEXES + MANIFESTS:
            _, data = self.registry.manifest(wanted.digest)
            taking.restart()
            taking.write(data)
            told(taking.offset)
            return
        failures, furthest = 0, taking.offset
        while True:
            try:
                return self._fetch(wanted, taking, told)
            except (HTTPError, Interrupted, OSError) as error:
                if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                    taking.restart()  # a full disk is given back what this has taken of it
                    raise
                failures = 1 if taking.offset > furthest else failures + 1  # what begins again is no progress
                furthest = max(furthest, taking.offset)
                if failures >= TRIES:
                    said = f"{self.registry.reference.host} breaks off blob {wanted.digest} again and again"
                    raise Interrupted(said, "begin again later: what is there is kept") from None
                self.stop.wait(backoff(failures))

    def resumes_after(self, error: BaseException) -> bool:
        """Tell whether the connection only broke off: then the blobs that are complete are kept for the next try."""
        return isinstance(error, Interrupted | KeyboardInterrupt)

    def _fetch(self, wanted: Descriptor, taking: Taking, told: Callable[[int], None]) -> None:
        if taking.offset >= wanted.size > 0:
            return
        headers = {"Range": f"bytes={taking.offset}-"} if taking.offset else {}
        with self.registry.ask("GET", self.registry.path(f"blobs/{wanted.digest}"), headers) as response:
            if response.status == 416 or (response.status in (200, 206) and not _follows_on(response, wanted, taking)):
                taking.restart()
                if response.status != 200:
                    raise Interrupted("the registry sends another part than it was asked for")
            elif response.status not in (200, 206):
                raise self.registry.refused(response, f"blob {wanted.digest}")
            while piece := response.read(PIECE):
                self.stop()
                if taking.offset + len(piece) > wanted.size:
                    taking.restart()
                    raise Corrupt(
                        f"{self.registry.reference.host} sends more of {wanted.digest} than {wanted.size} bytes"
                    )
                taking.write(piece)
                told(taking.offset)
        if taking.offset < wanted.size:
            raise Interrupted("the connection ended early")


def _follows_on(response: Response, wanted: Descriptor, taking: Taking) -> bool:
    """Tell whether an answer's bytes continue those that are there."""
    if response.status == 200:
        return taking.offset == 0
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return match is not None and tuple(map(int, match.groups())) == (taking.offset, wanted.size - 1, wanted.size)
