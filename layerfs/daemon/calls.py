"""How a call is answered: the method runs in a thread, its error becomes a status, its time is counted and logged.

Threads are set apart by what they work for (a snapshotter, the diff service), so that a slow disk behind one leaves
the others theirs. A call whose client has gone, or whose deadline has passed, is left at once: its method runs to its
end, or to where it asks `Call.cancelled`, and what it did stands. Every method of the store leaves before or after.
"""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from layerfs.daemon.messages import SERVICES, full_name, message
from layerfs.daemon.metrics import Metrics
from layerfs.daemon.status import status_of
from layerfs.daemon.streams import Streams, ending
from layerfs.errors import InvalidArgument

THREADS: Final = 32  # for each snapshotter; guessed

_log = logging.getLogger("layerfs.daemon")
_numbers = itertools.count(1)


class Call:
    """What is known of a request beside its message: its number, containerd's namespace, whether it goes on."""

    __slots__ = ("_gone", "namespace", "number")

    def __init__(self, namespace: str) -> None:
        self.number = next(_numbers)
        self.namespace = namespace
        self._gone = threading.Event()

    def cancel(self) -> None:
        """Note that the client has gone or its deadline has passed."""
        self._gone.set()

    def cancelled(self) -> bool:
        """Tell whether the client has gone or its deadline has passed."""
        return self._gone.is_set()


class Pools:
    """Thread pools by snapshotter name. Names that are not known share one pool, so their number is bounded."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def of(self, name: str) -> ThreadPoolExecutor:
        """Return the threads for a name."""
        name = name if name in self._known else "other"
        if name not in self._pools:
            self._pools[name] = ThreadPoolExecutor(THREADS, thread_name_prefix=f"layerfs-{name}")
        return self._pools[name]

    def close(self) -> None:
        """End the threads once their work is done."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


class Calls:
    """Makes gRPC handlers of the methods of a service."""

    def __init__(self, pools: Pools, metrics: Metrics) -> None:
        self._pools = pools
        self._metrics = metrics
        self._streams = Streams()

    def handlers(self, service: str, methods: object) -> Any:
        """Return the handlers of a service (a key of SERVICES) whose methods `methods` has."""
        package = service.rpartition(".")[0]
        made = {}
        for name, (asked, _, _, streamed) in SERVICES[service].items():
            make = grpc.unary_stream_rpc_method_handler if streamed else grpc.unary_unary_rpc_method_handler
            answer = self._stream if streamed else self._unary
            request = message(package, full_name(package, asked))
            # gRPC passes bytes on: it would log the traceback of a message that cannot be read.
            made[name] = make(answer(_Method(name, request, getattr(methods, name))))
        return grpc.method_handlers_generic_handler(service, made)

    def _unary(self, method: "_Method") -> Callable[[bytes, Any], Any]:
        async def handle(request: bytes, context: Any) -> Any:
            answer = await self._answer(method, request, context)
            return answer.SerializeToString()

        return handle

    def _stream(self, method: "_Method") -> Callable[[bytes, Any], Any]:
        async def handle(request: bytes, context: Any) -> None:
            await self._streams.send(context, lambda: self._answer(method, request, context))

        return handle

    async def _answer(self, method: "_Method", data: bytes, context: Any) -> Any:
        """Run a method in a thread and return what it returns; an error ends the call with its status."""
        call = Call(_namespace(context))
        started = time.monotonic()
        code = grpc.StatusCode.OK
        told = ""
        try:
            request = method.read(data)
            pool = self._pools.of(getattr(request, "snapshotter", "diff"))
            return await asyncio.get_running_loop().run_in_executor(pool, method.run, request, call)
        except asyncio.CancelledError:
            call.cancel()
            code, told = grpc.StatusCode.CANCELLED, "the client has gone"
            raise
        except Exception as error:
            code, told = status_of(error)
        finally:
            seconds = time.monotonic() - started
            self._metrics.answered(method.name, code.name, seconds)
            _log.log(
                logging.DEBUG if code in _USUAL else logging.WARNING,
                "%s",
                method.name,
                extra={"request": call.number, "status": code.name, "ms": round(seconds * 1000, 2), "told": told},
            )
        await ending(context.abort(code, told))


class _Method(NamedTuple):
    """A method of a service, and the message that it is asked with."""

    name: str
    asked: Any
    run: Callable[[Any, Call], Any]

    def read(self, data: bytes) -> Any:
        """Return a request. Raises InvalidArgument for bytes that are none."""
        try:
            return self.asked.FromString(data)
        except DecodeError:
            raise InvalidArgument(f"this is no {self.asked.DESCRIPTOR.name}", "send containerd's messages") from None


_USUAL: Final = (
    grpc.StatusCode.OK,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.CANCELLED,
)


def _namespace(context: Any) -> str:
    """Return containerd's namespace of a call; empty where it sends none, as its garbage collector does."""
    found = dict(context.invocation_metadata() or ()).get("containerd-namespace", "")
    return found if isinstance(found, str) and len(found) <= 256 else ""
