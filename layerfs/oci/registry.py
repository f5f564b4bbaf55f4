"""The OCI distribution protocol: one repository of one registry.

Secrets: a name and password go to the registry's origin, or to the realm that it names if that is encrypted (plain HTTP
only with --insecure, to the registry's own host or this machine); a token goes to the registry's origin. Never
elsewhere, so also not along a redirect or to an upload's address on another host.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from threading import Lock
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from layerfs.errors import Corrupt, LayerfsError, NotFound
from layerfs.oci.connect import is_loopback
from layerfs.oci.credentials import Credentials, find_credentials
from layerfs.oci.digest import Digest, digest_of, parse_digest
from layerfs.oci.documents import DOCUMENT_MAX, INDEXES, MANIFESTS, Descriptor, parse_json
from layerfs.oci.reference import Reference
from layerfs.oci.transport import ERROR_MAX, HttpRequest, Origin, Response, Transport, is_link_local, origin_of

ACCEPT: Final = ", ".join((*INDEXES, *MANIFESTS))
_SCHEME: Final = re.compile(
    r'(?:^|,)\s*(Basic|Bearer)(?=\s|,|$)((?:[^",]|"[^"]*"|,(?!\s*(?:Basic|Bearer)[\s,]))*)', re.I
)
_FIELD: Final = re.compile(r'([a-z_]+)=(?:"([^"]*)"|([^",\s]+))', re.IGNORECASE)


class Refused(LayerfsError):
    """Raised when a registry refuses a request, or answers against the protocol."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


class Registry:
    """One repository; every method may be called from any thread."""

    def __init__(self, reference: Reference, transport: Transport, *, push: bool = False) -> None:
        self.reference = reference
        self._transport = transport
        self._base = f"{'http' if transport.insecure else 'https'}://{reference.host}"
        self._origin = origin_of(self._base)
        self._scopes = {f"repository:{reference.repository}:{'pull,push' if push else 'pull'}"}
        self._authorization: str | None = None
        self._lock = Lock()

    def sibling(self, reference: Reference) -> "Registry":
        """Return the same repository, logged in, for another of its manifests."""
        other = copy(self)
        other.reference = reference
        return other

    # What others build on

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = {},
        body: Callable[[], Any] | None = None,
        *,
        retry: bool = True,
    ) -> Iterator[Response]:
        """Send a request and yield the answer, whatever its status; logs in if the registry asks for that."""
        request = HttpRequest(method, urljoin(self._base, path), headers, body, retry)
        for attempt in range(2):
            used = self._authorization
            with self._transport.send(request, self._secret) as response:
                if response.status != 401 or attempt or not self._log_in(response, used):
                    yield response
                    return

    def _secret(self, origin: Origin) -> str | None:
        return self._authorization if origin == self._origin else None

    def path(self, rest: str) -> str:
        """Return the path of something in the repository."""
        return f"/v2/{self.reference.repository}/{rest}"

    def refused(self, response: Response, what: str) -> LayerfsError:
        """Return the error for an answer that is not the expected one."""
        said = _said(response)
        text = f"{self.reference.host} answers {response.status} for {what}{': ' + said if said else ''}"
        if response.status == 404:
            return NotFound(text)
        hint = "log in, as with `podman login`" if response.status in (401, 403) else ""
        return Refused(response.status, text, hint)

    # Logging in

    def _log_in(self, response: Response, used: str | None) -> bool:
        """Get what the registry asks for; tell whether there is something new to try."""
        challenge = response.headers.get("WWW-Authenticate", "")
        response.drain_conn()
        with self._lock:
            if self._authorization != used:  # another thread has just logged in
                return True
            known = find_credentials(self.reference.host, self.reference.repository)
            asked = challenges(challenge)
            if "bearer" in asked:
                self._authorization = "Bearer " + self._token(asked["bearer"], known)
            elif "basic" in asked and known is not None and not known.identity:
                self._authorization = known.basic
            return self._authorization != used

    def _token(self, challenge: Mapping[str, str], known: Credentials | None) -> str:
        realm = challenge.get("realm", "")
        self._check_realm(realm)
        fields = {"service": challenge.get("service", "")}
        scopes = sorted(self._scopes | set(challenge.get("scope", "").split()) - {""})
        query = urlencode([*((key, value) for key, value in fields.items() if value), *(("scope", s) for s in scopes)])
        if known is not None and known.identity:
            form = {"grant_type": "refresh_token", "refresh_token": known.secret, "client_id": "layerfs"}
            body = urlencode(form | fields | {"scope": " ".join(scopes)}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = HttpRequest("POST", realm, headers, lambda: body)
        else:
            request = HttpRequest("GET", realm + ("&" if "?" in realm else "?") + query, {})
        basic = known.basic if known is not None and not known.identity else None
        place = origin_of(realm)
        with self._transport.send(request, lambda origin: basic if origin == place else None) as response:
            if response.status != 200:
                raise self.refused(response, f"a token of {urlsplit(realm).netloc}")
            answer = parse_json(response.read(DOCUMENT_MAX))
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token or not token.isascii() or any(c.isspace() for c in token):
            raise Corrupt(f"{urlsplit(realm).netloc} gives no token")
        return token

    def _check_realm(self, realm: str) -> None:
        """Raise unless secrets may be sent to a realm."""
        scheme, host, _ = origin_of(realm)
        own = host == self._origin[1] or is_loopback(host)
        if scheme == "https" and not (is_link_local(host) and not own):
            return
        if scheme == "http" and self._transport.insecure and own:
            return
        raise LayerfsError(
            f"{self.reference.host} wants us to log in at {realm[:200]!r}, where no secret may be sent",
            "the registry's realm must be https",
        )

    # Manifests

    def manifest(self, what: str) -> tuple[Descriptor, bytes]:
        """Return a manifest or index by its tag or digest, checked. Raises NotFound, Refused, Corrupt."""
        with self.ask("GET", self.path(f"manifests/{what}"), {"Accept": ACCEPT}) as response:
            if response.status != 200:
                raise self.refused(response, f"{self.reference.repository}:{what}")
            data = b""
            while len(data) <= DOCUMENT_MAX and (piece := response.read(DOCUMENT_MAX + 1 - len(data))):
                data += piece
            said = response.headers.get("Docker-Content-Digest")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if len(data) > DOCUMENT_MAX:
            raise Corrupt(f"{self.reference.host} sends a manifest of more than {DOCUMENT_MAX} bytes")
        digest = digest_of(data)
        wanted = what if what.startswith("sha256:") else said
        if wanted and wanted.startswith("sha256:") and parse_digest(wanted) != digest:
            raise Corrupt(f"{self.reference.host} sends manifest {digest}, and calls it {wanted}")
        own = parse_json(data).get("mediaType")
        return Descriptor(own if isinstance(own, str) and own else media_type, digest, len(data)), data

    def put_manifest(self, what: str, media_type: str, data: bytes) -> bool:
        """Store a manifest by its tag or digest; tell whether the registry has taken note of its subject."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        with self.ask("PUT", self.path(f"manifests/{what}"), headers, lambda: data) as response:
            if response.status not in (200, 201, 202):
                raise self.refused(response, f"the manifest {what}")
            said = response.headers.get("Docker-Content-Digest")
            if said and said.startswith("sha256:") and said != digest_of(data):
                raise Corrupt(f"{self.reference.host} has stored {said} instead of {digest_of(data)}")
            return "OCI-Subject" in response.headers

    def has(self, kind: str, digest: Digest) -> bool:
        """Tell whether the repository has a blob or manifest (`kind`: blobs, manifests)."""
        with self.ask("HEAD", self.path(f"{kind}/{digest}"), {"Accept": ACCEPT}) as response:
            if response.status in (200, 404):
                return response.status == 200
            raise self.refused(response, f"{kind}/{digest}")

    def referrers(self, digest: Digest) -> list[Descriptor]:
        """Return what refers to a manifest (signatures, SBOMs): from the referrers API, or from the fallback tag."""
        from layerfs.oci.documents import Index, parse_document

        with self.ask("GET", self.path(f"referrers/{digest}"), {"Accept": ACCEPT}) as response:
            if response.status == 200:
                data = response.read(DOCUMENT_MAX)
            elif response.status in (400, 404, 405):
                data = b""
            else:
                raise self.refused(response, f"the referrers of {digest}")
        if not data:
            try:
                _, data = self.manifest(referrers_tag(digest))
            except NotFound:
                return []
        found = parse_document(data, INDEXES[0])
        return list(found.manifests) if isinstance(found, Index) else []


def challenges(header: str) -> dict[str, dict[str, str]]:
    """Return what WWW-Authenticate asks for: the fields of each scheme that we know, of which there may be several."""
    found: dict[str, dict[str, str]] = {}
    for kind, rest in _SCHEME.findall(header):
        fields = {name.lower(): quoted or plain for name, quoted, plain in _FIELD.findall(rest)}
        found.setdefault(kind.lower(), fields)
    return found


def referrers_tag(digest: Digest) -> str:
    """Return the tag under which registries without the API keep referrers (distribution spec)."""
    return digest.replace(":", "-")


def _said(response: Response) -> str:
    """Return the registry's own words for an error."""
    try:
        found = json.loads(response.read(ERROR_MAX))
        first = found["errors"][0]
        return f"{first.get('code', '')} {first.get('message', '')}".strip()[:300]
    except Exception:  # whatever it is, the status says enough
        return ""
