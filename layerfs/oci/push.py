"""An image from a store into a registry: what is there is not sent, what another repository has is mounted.

A blob goes in pieces (PATCH), and we count ourselves what was sent: some registries' Range says nothing of use, and
docker's takes a wrong offset for a right one. When a piece fails, the registry is asked how far it is; an answer that
lies in the piece goes on from there, any other begins the blob again.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from layerfs.errors import Corrupt, NotFound
from layerfs.oci.closure import leaves, parts
from layerfs.oci.connect import Interrupted
from layerfs.oci.documents import INDEX, MANIFEST, Descriptor, Manifest, dump_json, parse_document
from layerfs.oci.images import Image, Images
from layerfs.oci.parallel import Progress, Stop, for_each_blob, silent
from layerfs.oci.registry import Refused, Registry, referrers_tag
from layerfs.oci.transport import TRIES, Response

CHUNK: Final = 64 << 20  # bytes; at most so much is sent again
PIECE: Final = 256 << 10
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")


@dataclass
class Push:
    """One image on its way out. mount_from: other repositories of the same registry that may have its blobs."""

    images: Images
    registry: Registry
    progress: Progress = silent
    stop: Stop = field(default_factory=Stop)
    mount_from: tuple[str, ...] = ()

    def image(self, image: Image) -> Descriptor:
        """Push an image under the registry's reference and return what its name stands for now.

        An index goes whole if all that it names is in the store; else the manifest of our platform goes alone.
        """
        found = leaves(image.top, self.images.document, self.images.has)
        top = image.top
        if not all(self.images.has(leaf.descriptor.digest) for leaf in found):
            top, found = image.chosen, leaves(image.chosen, self.images.document)
        manifests = {leaf.descriptor.digest: leaf.descriptor for leaf in found}
        indexes = {each.digest: each for leaf in found for each in leaf.above}
        blobs = [blob for manifest in manifests.values() for blob in self._parts(manifest)]
        for_each_blob(blobs, self.blob, self.stop)
        for entry in [*manifests.values(), *sorted(indexes.values(), key=lambda each: each.digest == top.digest)]:
            if entry.digest != top.digest:
                self._document(entry, entry.digest)
        self._document(top, self.registry.reference.what)
        return top

    def _parts(self, entry: Descriptor) -> list[Descriptor]:
        document = parse_document(self.images.document(entry), entry.media_type)
        return parts(document) if isinstance(document, Manifest) else []

    def _document(self, entry: Descriptor, what: str) -> None:
        data = self.images.document(entry)
        kind = entry.media_type or MANIFEST
        noted = self.registry.put_manifest(what, kind, data)
        subject = json.loads(data).get("subject")
        if subject and not noted:
            self._refer(subject["digest"], entry, data)

    def _refer(self, subject: str, entry: Descriptor, data: bytes) -> None:
        """List a referrer under the subject's tag, since the registry does not itself."""
        tag = referrers_tag(subject)  # type: ignore[arg-type]
        raw = json.loads(data)
        listed = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
        if kind := raw.get("artifactType") or raw.get("config", {}).get("mediaType"):
            listed["artifactType"] = kind
        try:
            index = json.loads(self.registry.manifest(tag)[1])
        except NotFound:
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        if all(each.get("digest") != entry.digest for each in index["manifests"]):
            index["manifests"].append(listed)
            self.registry.put_manifest(tag, INDEX, dump_json(index))

    def blob(self, blob: Descriptor) -> None:
        """Send one blob, unless the repository has it or can have it from another."""
        self.stop()
        if self.registry.has("blobs", blob.digest):
            self.progress("there", blob.digest, blob.size, blob.size)
            return
        try:
            self._send(blob)
        except Refused as error:
            if error.status != 400:
                raise
            # What the registry has is not what was counted (DIGEST_INVALID): once more, from the start.
            self._send(blob)
        self.progress("pushed", blob.digest, blob.size, blob.size)

    def _send(self, blob: Descriptor) -> None:
        """Upload a blob from its first byte, unless it can be mounted. Raises Corrupt for one that has another size."""
        location = self._begin(blob)
        if location is None:
            return
        fd = self.images.store.content.open(blob.digest)
        try:
            if os.fstat(fd).st_size != blob.size:
                raise Corrupt(f"blob {blob.digest} in the store has not {blob.size} bytes")
            self._upload(blob, fd, location)
        finally:
            os.close(fd)

    def _begin(self, blob: Descriptor) -> str | None:
        """Begin an upload and return its address; None if another repository's blob was mounted."""
        for source in (*self.mount_from, None):
            path = self.registry.path("blobs/uploads/")
            if source is not None:
                path += f"?mount={blob.digest}&from={quote(source, safe='')}"
            with self.registry.ask("POST", path, {"Content-Length": "0"}) as response:
                if response.status == 201 and source is not None:
                    return None
                if response.status == 202:
                    return self._location(response, path)
                if source is None:
                    raise self.registry.refused(response, f"an upload of {blob.digest}")
        raise AssertionError("unreachable")

    def _location(self, response: Response, before: str) -> str:
        location = response.headers.get("Location")
        if not location:
            raise Refused(response.status, f"{self.registry.reference.host} gives an upload no address")
        return urljoin(before, location)

    def _upload(self, blob: Descriptor, fd: int, location: str) -> None:
        failures, sent = 0, 0
        while sent < blob.size or blob.size == 0:
            size = min(CHUNK, blob.size - sent)
            try:
                location = self._patch(blob, fd, location, sent, size)
                sent, failures = sent + size, 0
            except (Interrupted, Refused) as error:
                failures += 1
                if failures >= TRIES or (isinstance(error, Refused) and error.status in (401, 403, 404, 413)):
                    raise
                location, sent = self._recover(blob, location, sent, size)
            if blob.size == 0:
                break
        self._complete(blob, location)

    def _patch(self, blob: Descriptor, fd: int, location: str, start: int, size: int) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{start}-{start + size - 1}",
        }

        def body() -> Iterator[bytes]:
            at, end = start, start + size
            while at < end:
                self.stop()
                piece = os.pread(fd, min(PIECE, end - at), at)
                if not piece:
                    raise Corrupt(f"blob {blob.digest} became shorter")
                yield piece
                at += len(piece)
                self.progress("pushing", blob.digest, at, blob.size)

        if size == 0:
            return location
        with self.registry.ask("PATCH", location, headers, body, retry=False) as response:
            if response.status != 202:
                raise self.registry.refused(response, f"a part of {blob.digest}")
            return self._location(response, location)

    def _recover(self, blob: Descriptor, location: str, start: int, size: int) -> tuple[str, int]:
        """Ask how far an upload is, and return where to go on: its address, and the bytes that are there."""
        with self.registry.ask("GET", location) as response:
            match = _RANGE.fullmatch(response.headers.get("Range", ""))
            # docker-registry says 0-0 of an upload with one byte and of one with none: that tells nothing.
            there = int(match[1]) + 1 if match and match[1] != "0" else -1
            if response.status == 204 and start <= there <= start + size:
                return self._location(response, location) if "Location" in response.headers else location, there
        again = self._begin(blob)
        if again is None:
            raise Interrupted("the blob appeared meanwhile", "push again")
        return again, 0

    def _complete(self, blob: Descriptor, location: str) -> None:
        mark = "&" if urlsplit(location).query else "?"
        address = f"{location}{mark}digest={quote(blob.digest, safe='')}"
        with self.registry.ask("PUT", address, {"Content-Length": "0"}, retry=False) as response:
            if response.status not in (201, 204):
                raise self.registry.refused(response, f"the end of {blob.digest}")
            said = response.headers.get("Docker-Content-Digest")
            if said and said.startswith("sha256:") and said != blob.digest:
                raise Corrupt(f"{self.registry.reference.host} has stored {said} instead of {blob.digest}")
