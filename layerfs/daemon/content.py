"""containerd's content store, as the diff service needs it: a blob read as a stream, and one written.

The daemon is a client here, of the socket in `containerd =` of its configuration. What is written is kept by a lease of
an hour: containerd does not tell a diff plugin the lease of the client that asks, and its collector would take the blob
before that client has made it part of an image.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc

from layerfs.daemon.messages import CONTENT, EMPTY, LEASES, message
from layerfs.errors import AlreadyExists, LayerfsError, NotFound, Unsupported

PIECE: Final = 1 << 20  # bytes of one message
QUEUE: Final = 4  # messages that wait to be sent
PATIENCE: Final = 5.0  # s for gRPC to take the last one
KEPT: Final = timedelta(hours=1)  # for a client to name in an image what was written
EXPIRE: Final = "containerd.io/gc.expire"
_STAT, _WRITE, _COMMIT = range(3)
_SERVICE: Final = f"/{CONTENT}.Content/"
_ReadRequest, _ReadResponse = message(CONTENT, "ReadContentRequest"), message(CONTENT, "ReadContentResponse")
_WriteRequest, _WriteResponse = message(CONTENT, "WriteContentRequest"), message(CONTENT, "WriteContentResponse")
_CreateRequest, _CreateResponse = message(LEASES, "CreateRequest"), message(LEASES, "CreateResponse")
_AbortRequest, _Empty = message(CONTENT, "AbortRequest"), message(CONTENT, EMPTY)


class ContentStore:
    """A connection to containerd that is made when it is first needed. Methods may be called from any thread."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._guard = threading.Lock()
        self._channel: grpc.Channel | None = None

    def _call(self, kind: str, name: str, asked: Any, answered: Any, service: str = _SERVICE) -> Any:
        if not self._address:
            raise Unsupported("no containerd is configured", "set `containerd`, or use containerd's own differ")
        with self._guard:
            if self._channel is None:
                self._channel = grpc.insecure_channel(f"unix:{os.path.abspath(self._address)}")
        make = getattr(self._channel, kind)
        return make(
            service + name, request_serializer=asked.SerializeToString, response_deserializer=answered.FromString
        )

    @contextmanager
    def reading(self, namespace: str, digest: str) -> Iterator[Callable[[int], bytes]]:
        """Yield the function that reads on in a blob: at most so many bytes, none at its end."""
        call = self._call("unary_stream", "Read", _ReadRequest, _ReadResponse)
        with _explained():
            answers = call(_ReadRequest(digest=digest), metadata=_metadata(namespace))
            try:
                yield _Reader(answers).read
            finally:
                answers.cancel()

    @contextmanager
    def writing(self, namespace: str, ref: str) -> Iterator["Writing"]:
        """Yield a blob in the making under a reference; one that is not committed is taken back."""
        call = self._call("stream_stream", "Write", _WriteRequest, _WriteResponse)
        writing = Writing(ref)
        with _explained():
            metadata = (*_metadata(namespace), ("containerd-lease", self._lease(namespace)))
            answers = call(writing.requests(), metadata=metadata)
            try:
                writing.answers = answers
                yield writing
            except BaseException:
                writing.end()
                answers.cancel()
                self._abort(namespace, ref)
                raise

    def _lease(self, namespace: str) -> str:
        """Have a lease that ends by itself, and return its name."""
        call = self._call("unary_unary", "Create", _CreateRequest, _CreateResponse, f"/{LEASES}.Leases/")
        end = (datetime.now(UTC) + KEPT).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = f"layerfs-{os.urandom(8).hex()}"
        return str(call(_CreateRequest(id=name, labels={EXPIRE: end}), metadata=_metadata(namespace)).lease.id)

    def _abort(self, namespace: str, ref: str) -> None:
        call = self._call("unary_unary", "Abort", _AbortRequest, _Empty)
        with suppress(grpc.RpcError):  # it is not begun, or containerd is gone: its own collector takes what is left
            call(_AbortRequest(ref=ref), metadata=_metadata(namespace), timeout=5)

    def close(self) -> None:
        """End the connection."""
        if self._channel is not None:
            self._channel.close()


class Writing:
    """A blob that is being sent: pieces wait in a bounded queue until gRPC's thread takes them."""

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._queue: queue.Queue[Any] = queue.Queue(QUEUE)
        self._size = 0
        self.answers: Any = None

    def requests(self) -> Iterator[Any]:
        """Yield what is to be sent, until the end."""
        while (request := self._queue.get()) is not None:
            yield request

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes."""
        for start in range(0, len(data), PIECE):
            piece = bytes(data[start : start + PIECE])
            self._put(_WriteRequest(action=_WRITE, ref=self._ref, offset=self._size, data=piece))
            self._size += len(piece)

    def commit(self, digest: str, labels: dict[str, str]) -> None:
        """Make what was sent the blob of a digest; one that is there already counts as written."""
        request = _WriteRequest(
            action=_COMMIT, ref=self._ref, total=self._size, offset=self._size, expected=digest, labels=labels
        )
        self._put(request)
        self.end()
        try:
            for _ in self.answers:
                pass
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call) or error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise

    def end(self) -> None:
        """End gRPC's thread, also if the queue is full."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=PATIENCE)

    def _put(self, request: Any) -> None:
        while True:
            try:
                self._queue.put(request, timeout=1)
                return
            except queue.Full:
                if self.answers.done():  # containerd has ended the call: its answer says why
                    for _ in self.answers:
                        pass
                    raise LayerfsError("containerd ended a write too early", "its log says why") from None


class _Reader:
    """Pieces of a stream of answers, as large as they are asked for."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self._answers = answers
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        while not self._rest:
            answer = next(self._answers, None)
            if answer is None:
                return b""
            self._rest = memoryview(answer.data)
        piece, self._rest = self._rest[:count], self._rest[count:]
        return bytes(piece)


def _metadata(namespace: str) -> tuple[tuple[str, str], ...]:
    return (("containerd-namespace", namespace or "default"),)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what containerd answers into our errors."""
    try:
        yield
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else None
        details = error.details() if isinstance(error, grpc.Call) else str(error)
        kinds = {grpc.StatusCode.NOT_FOUND: NotFound, grpc.StatusCode.ALREADY_EXISTS: AlreadyExists}
        kind = kinds.get(code, LayerfsError) if code is not None else LayerfsError
        hint = "is `containerd` of the configuration its socket?"
        raise kind(f"containerd's content store: {details}", hint) from None
