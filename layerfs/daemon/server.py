"""The daemon's life: store, socket, services, numbers; signals; the end.

SIGTERM and SIGINT end it once the requests that it has are answered (at most GRACE), SIGHUP rereads the configuration.
It takes no mount with it: mounts are made by containerd's client, FUSE servers are children of the process that mounts,
and packers are programs of their own. The next daemon finds all that is to be known in the store.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # its handlers warn at each child that is started by exec

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from layerfs.daemon.activation import relay
from layerfs.daemon.address import Address
from layerfs.daemon.calls import Calls, Pools
from layerfs.daemon.config import ANY, PREFIX, Config
from layerfs.daemon.content import ContentStore
from layerfs.daemon.diffs import Diffs
from layerfs.daemon.messages import DIFF, POOL, SERVICES, SNAPSHOTS
from layerfs.daemon.metrics import Metrics, MetricsServer
from layerfs.daemon.served_store import ServedStore
from layerfs.daemon.snapshots import Snapshots
from layerfs.errors import LayerfsError
from layerfs.sys.notify import notify

GRACE: Final = 10.0  # s for requests that are being answered
_OPTIONS: Final = (
    ("grpc.max_concurrent_streams", 1024),  # of one connection
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.http2.max_frame_size", 1 << 20),
    ("grpc.so_reuseport", 0),
)
_log = logging.getLogger("layerfs.daemon")


class Daemon:
    """A daemon that has not begun: `run` serves until it is told to end."""

    def __init__(
        self, config: Config, served: ServedStore, reread: Callable[[], Config], passed: socket.socket | None
    ) -> None:
        self._config = config
        self._served = served
        self._reread = reread
        self._passed = passed
        self._metrics = Metrics()
        self._pools = Pools(frozenset(["diff", ANY, *(f"{PREFIX}{name}" for name in served.drivers)]))
        self._content = ContentStore(config.containerd)
        self._end = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal says to end. Raises LayerfsError and OSError for what keeps it from starting."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        with ExitStack() as held:
            address = Address(os.fsencode(self._config.address) + (b".inner" if self._passed else b""))
            held.callback(address.close)
            self._metrics.watch(self._served)
            if self._config.metrics:
                held.callback(MetricsServer(self._config.metrics, self._metrics).close)
            held.callback(self._content.close)
            held.callback(self._pools.close)
            server = self._server()
            server.add_insecure_port(address.bind)
            await server.start()
            address.publish()
            relayed = await relay(self._passed, address.path) if self._passed else None
            await self._serve(server)
            if relayed:
                relayed.close()

    def _server(self) -> Any:
        server = grpc.aio.server(options=_OPTIONS)
        calls = Calls(self._pools, self._metrics)
        services = {f"{SNAPSHOTS}.Snapshots": Snapshots(self._served)}
        handlers = [calls.handlers(name, methods) for name, methods in services.items()]
        handlers.append(calls.handlers(f"{DIFF}.Diff", Diffs(self._served, self._content)))
        server.add_generic_rpc_handlers(tuple(handlers))
        _describe(health_pb2)
        names = [name for name in SERVICES if name in (f"{SNAPSHOTS}.Snapshots", f"{DIFF}.Diff")]  # others we only call
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        self._health = servicer
        self._named = ["", *names]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME, health.SERVICE_NAME], server, pool=POOL)
        return server

    async def _serve(self, server: Any) -> None:
        """Say that we are ready, wait for the end, and let go."""
        for name in self._named:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        cleaning = asyncio.create_task(self._clean())
        self._metrics.up.set(1)
        _log.info("serving at %s, store %s", self._config.address, self._config.root)
        notify("READY=1")
        try:
            await self._end.wait()
        finally:
            notify("STOPPING=1")
            self._metrics.up.set(0)
            cleaning.cancel()
            await self._health.enter_graceful_shutdown()
            await server.stop(GRACE)

    async def _clean(self) -> None:
        """Give back what removed snapshots took, now and then; a failure is logged and tried again."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._pools.of("other"), self._clean_once)
            while True:
                pause = self._config.cleanup_seconds
                await asyncio.sleep(pause or 60)
                if pause:
                    break

    def _clean_once(self) -> None:
        for name, why_not in self._served.store.drivers().items():
            try:
                if not why_not:
                    self._served.store.snapshotter(name).cleanup()
            except (LayerfsError, OSError) as error:
                _log.warning("cleanup of %s: %s", name, error)

    def _hang_up(self) -> None:
        """Reread the configuration; one that is wrong changes nothing."""
        notify("RELOADING=1")
        try:
            fresh = self._reread()
        except (LayerfsError, OSError) as error:
            _log.error("the configuration stays as it was: %s", error)
        else:
            self._config = self._config.reread(fresh)
            self._served.default = self._config.snapshotter
            logging.getLogger().setLevel(self._config.log_level.upper())
            _log.info("the configuration was read again")
        notify("READY=1")


def _describe(module: Any) -> None:
    """Have reflection describe a service of grpcio's, too."""
    with suppress(TypeError):  # it is there already
        POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
