"""Pull and push as a person asks for them: a name, and all that belongs to it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.oci.digest import Digest
from layerfs.oci.documents import Descriptor, Manifest, parse_document
from layerfs.oci.images import Image, Images
from layerfs.oci.parallel import Progress, Stop, silent
from layerfs.oci.reference import Reference, parse_reference, remote_reference
from layerfs.oci.registry import Registry
from layerfs.oci.transport import Transport

if TYPE_CHECKING:  # a push waits for nothing that only a pull needs
    from layerfs.oci.intake import IntakeOptions

REFERRERS_MAX: Final = 100  # of one image

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was pulled, and what unpacked layers lack on this host: (path, why)."""

    images: tuple[Image, ...]
    waived: tuple[tuple[bytes, str], ...]


def pull(
    images: Images,
    text: str,
    wishes: "IntakeOptions",
    *,
    insecure: bool = False,
    referrers: bool = False,
    progress: Progress = silent,
    check: Check = lambda: None,
) -> Pulled:
    """Pull an image. Raises InvalidArgument, NotFound, Corrupt, Refused, Interrupted, OSError."""
    from layerfs.oci.intake import Intake
    from layerfs.oci.pull import Remote

    reference = remote_reference(text)
    stop = Stop(check)
    with closing(Transport(insecure=insecure, stop=stop)) as transport:
        registry = Registry(reference, transport)
        top, data = registry.manifest(reference.what)
        remote = Remote(registry, stop)
        intake = Intake(images, remote, wishes, progress, stop)
        intake.know(top, data)
        taken = intake.take([str(reference)], top)
        if referrers:
            for entry in registry.referrers(taken[0].top.digest)[:REFERRERS_MAX]:
                name = f"{reference.host}/{reference.repository}@{entry.digest}"
                taken += Intake(images, remote, replace(wishes, snapshotter=None), progress, stop).take([name], entry)
    return Pulled(tuple(taken), tuple(intake.waived))


def push(
    images: Images,
    text: str,
    to: str,
    *,
    insecure: bool = False,
    referrers: bool = False,
    mount_from: tuple[str, ...] = (),
    progress: Progress = silent,
    check: Check = lambda: None,
) -> list[tuple[str, Digest]]:
    """Push an image and return the names it has in the registry now. Raises as `pull`."""
    from layerfs.oci.push import Push

    image = images.get(text)
    reference = remote_reference(to)
    sources = (*mount_from, *_siblings(images, image, reference))
    stop = Stop(check)
    with closing(Transport(insecure=insecure, stop=stop)) as transport:
        registry = Registry(reference, transport, push=True)
        top = Push(images, registry, progress, stop, sources).image(image)
        pushed = [(str(reference), top.digest)]
        for other in _referrers(images, top) if referrers else ():
            named = Reference(reference.host, reference.repository, "", other.top.digest)
            Push(images, registry.sibling(named), progress, stop, sources).image(other)
            pushed.append((str(named), other.top.digest))
    return pushed


def _siblings(images: Images, image: Image, reference: Reference) -> list[str]:
    """Return repositories of the same registry from which images with the same layers came."""
    found = []
    held = set(images.holds(image))
    for other in images.all():
        try:
            named = parse_reference(other.name)
        except InvalidArgument:  # one without a name
            continue
        if (
            named.host == reference.host
            and named.repository != reference.repository
            and held & set(images.holds(other))
        ):
            found.append(named.repository)
    return found[:3]


def _referrers(images: Images, top: Descriptor) -> list[Image]:
    """Return the images of the store whose manifests have an image as their subject."""
    found = []
    for image in images.all():
        try:
            document = parse_document(images.document(image.top), image.top.media_type)
        except NotFound:
            continue
        subject = document.raw.get("subject") if isinstance(document, Manifest) else None
        if isinstance(subject, dict) and subject.get("digest") == top.digest:
            found.append(image)
    return found
