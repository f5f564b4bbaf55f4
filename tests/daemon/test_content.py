"""containerd's content store as a client sees it, here played by a server of the test."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from layerfs.daemon.content import EXPIRE, ContentStore
from layerfs.daemon.messages import CONTENT, EMPTY, LEASES, message
from layerfs.errors import LayerfsError, NotFound, Unsupported

BLOB = bytes(range(256)) * 20_000


class Store:
    """Blobs in memory, behind the four methods that the daemon calls."""

    def __init__(self) -> None:
        self.blobs = {f"sha256:{hashlib.sha256(BLOB).hexdigest()}": BLOB}
        self.labels: dict[str, dict[str, str]] = {}
        self.namespaces: set[str] = set()
        self.leases: set[str] = set()

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        self.namespaces.add(dict(context.invocation_metadata())["containerd-namespace"])
        if request.digest not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        blob = self.blobs[request.digest]
        for start in range(0, len(blob), 1 << 20):
            yield message(CONTENT, "ReadContentResponse")(offset=start, data=blob[start : start + (1 << 20)])

    def create(self, request: Any, context: Any) -> Any:
        end = datetime.fromisoformat(request.labels[EXPIRE])
        assert timedelta(minutes=50) < end - datetime.now(UTC) < timedelta(minutes=70)
        self.leases.add(request.id)
        return message(LEASES, "CreateResponse")(lease={"id": request.id})

    def write(self, requests: Any, context: Any) -> Iterator[Any]:
        """Only under a lease, without which containerd's collector may take a blob at once."""
        assert dict(context.invocation_metadata())["containerd-lease"] in self.leases
        data = b""
        for request in requests:
            assert request.offset == len(data)
            data += request.data
            if request.action == 2:
                if request.expected in self.blobs:
                    context.abort(grpc.StatusCode.ALREADY_EXISTS, "it is there")
                assert request.expected == f"sha256:{hashlib.sha256(data).hexdigest()}"
                self.blobs[request.expected] = data
                self.labels[request.expected] = dict(request.labels)
            yield message(CONTENT, "WriteContentResponse")(offset=len(data))

    def abort(self, request: Any, context: Any) -> Any:
        return message(CONTENT, EMPTY)()


@contextmanager
def serving(store: Store, address: Path) -> Iterator[None]:
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "Read": grpc.unary_stream_rpc_method_handler(
            store.read, message(CONTENT, "ReadContentRequest").FromString, lambda m: m.SerializeToString()
        ),
        "Write": grpc.stream_stream_rpc_method_handler(
            store.write, message(CONTENT, "WriteContentRequest").FromString, lambda m: m.SerializeToString()
        ),
        "Abort": grpc.unary_unary_rpc_method_handler(
            store.abort, message(CONTENT, "AbortRequest").FromString, lambda m: m.SerializeToString()
        ),
    }
    create = grpc.unary_unary_rpc_method_handler(
        store.create, message(LEASES, "CreateRequest").FromString, lambda m: m.SerializeToString()
    )
    services = {f"{CONTENT}.Content": handlers, f"{LEASES}.Leases": {"Create": create}}
    server.add_generic_rpc_handlers(tuple(grpc.method_handlers_generic_handler(*each) for each in services.items()))
    server.add_insecure_port(f"unix:{address}")
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[tuple[ContentStore, Store]]:
    store = Store()
    with serving(store, tmp_path / "c.sock"):
        content = ContentStore(str(tmp_path / "c.sock"))
        yield content, store
        content.close()


def test_a_blob_is_read_to_its_end(behind: tuple[ContentStore, Store]) -> None:
    content, store = behind
    with content.reading("k8s.io", next(iter(store.blobs))) as read:
        assert b"".join(iter(lambda: read(65_537), b"")) == BLOB
    assert store.namespaces == {"k8s.io"}


def test_a_missing_blob_is_not_found(behind: tuple[ContentStore, Store]) -> None:
    with pytest.raises(NotFound), behind[0].reading("", "sha256:0") as read:
        read(1)


def test_a_blob_is_written_with_its_labels_also_twice(behind: tuple[ContentStore, Store]) -> None:
    content, store = behind
    data = b"abc" * 1_000_000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    for _ in range(2):
        with content.writing("default", "ref") as blob:
            blob.write(data[:10])
            blob.write(data[10:])
            blob.commit(digest, {"a": "b"})
    assert store.blobs[digest] == data
    assert store.labels[digest] == {"a": "b"}


def test_a_blob_that_is_given_up_is_not_there(behind: tuple[ContentStore, Store]) -> None:
    content, store = behind
    with pytest.raises(ZeroDivisionError), content.writing("default", "ref") as blob:
        blob.write(b"half")
        _ = 1 / 0
    assert len(store.blobs) == 1


def test_without_containerd_the_differ_is_not_ours() -> None:
    with pytest.raises(Unsupported), ContentStore("").reading("", "sha256:0"):
        pass


def test_a_containerd_that_is_not_there_is_told(tmp_path: Path) -> None:
    content = ContentStore(str(tmp_path / "none"))
    with pytest.raises(LayerfsError, match="content store"), content.reading("", "sha256:0") as read:
        read(1)
    content.close()
