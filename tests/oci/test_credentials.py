"""Who we are: the files of docker and podman, and their helpers."""

import base64
import json
import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError
from layerfs.oci.credentials import Credentials, find_credentials
from layerfs.oci.images import Images
from layerfs.oci.intake import IntakeOptions
from layerfs.oci.transfer import pull, push
from layerfs.snapshots.library import Store, open_store
from tests.oci.image import Made
from tests.oci.registries import docker_registry
from tests.oci.test_intake import take

BCRYPT = "$2b$05$abcdefghijklmnopqrstuuM7E59t/pBLB8x4aZysvBLD.kgRitkEK"  # of p:w


@pytest.fixture
def home(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    place = scratch / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    return place


def auth(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:p:w".encode()).decode()}


def write(path: Path, **content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_most_exact_entry_of_the_first_file_counts(home: Path) -> None:
    assert find_credentials("h:1", "a/b") is None
    write(home / ".docker/config.json", auths={"https://h:1/v2/": auth("docker"), "other": auth("other")})
    assert find_credentials("h:1", "a/b") == Credentials("docker", "p:w")
    write(home / ".config/containers/auth.json", auths={"h:1": auth("host"), "h:1/a": auth("part")})
    assert find_credentials("h:1", "a/b") == Credentials("part", "p:w")
    assert find_credentials("h:1", "ab") == Credentials("host", "p:w")
    assert find_credentials("h", "a/b") is None
    assert "p:w" not in repr(find_credentials("h:1", "ab"))


def test_token_of_identity(home: Path) -> None:
    write(home / ".docker/config.json", auths={"h": {"identitytoken": "t"}})
    assert find_credentials("h", "r") == Credentials("<token>", "t", identity=True)


def test_helper_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = home / "docker-credential-mine"
    helper.write_text('#!/bin/sh\nread host; echo "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    write(home / ".docker/config.json", credHelpers={"h": "mine", "e": "../evil"}, auths={"e": auth("file")})
    assert find_credentials("h", "r") == Credentials("h", "s")
    assert find_credentials("e", "r") == Credentials("file", "p:w")


def test_broken_file_is_named(home: Path) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text("{")
    with pytest.raises(InvalidArgument, match=r"config\.json"):
        find_credentials("h", "r")


@pytest.mark.parametrize("kept", ["credHelpers", "credsStore", "auths", "nobody"])
def test_docker_registry_that_asks_who_we_are_over_tls(
    kept: str, home: Path, store: Store, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(scratch / "ca.pem"))
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    (scratch / "users").write_text(f"me:{BCRYPT}\n")
    helper = home / "docker-credential-mine"
    helper.write_text(
        '#!/bin/sh\nread host; [ "$1 $host" = "get $REGISTRY" ] && echo \'{"Username": "me", "Secret": "p:w"}\'\n'
    )
    helper.chmod(0o755)
    take(store, Made().layout(scratch / "i"), driver=None)
    asks = f"auth: {{htpasswd: {{realm: here, path: {scratch / 'users'}}}}}\n"
    with docker_registry(scratch, asks, tls=True) as host:
        monkeypatch.setenv("REGISTRY", host)
        config = {"credHelpers": {host: "mine"}, "credsStore": "mine", "auths": {host: auth("me")}}
        if kept == "nobody":
            with pytest.raises(LayerfsError, match="401"):
                push(Images(store), "made:1", f"{host}/r:1")
            return
        write(home / ".docker/config.json", **{kept: config[kept]})
        ((_, pushed),) = push(Images(store), "made:1", f"{host}/r:1")
        with open_store(scratch / "other") as other:
            assert pull(Images(other), f"{host}/r:1", IntakeOptions()).images[0].top.digest == pushed
