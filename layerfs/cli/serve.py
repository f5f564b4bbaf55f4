"""`layerfs serve`: the snapshotter backend of containerd, buildkitd and nerdctl, at a unix socket."""

import argparse
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from layerfs.errors import Unsupported

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from layerfs.daemon.config import Config
    from layerfs.daemon.served_store import ServedStore

_DESCRIPTION = """\
Serve the store's snapshots to containerd as a proxy plugin (and a diff plugin) at a unix socket that only you can
open. Containers go on when this ends; it may be killed and started again at any time. SIGTERM ends it, SIGHUP rereads
the configuration. Under systemd use Type=notify and KillMode=process; a socket that systemd passes is served."""
_NEEDS = ("grpc", "grpc_health", "grpc_reflection", "prometheus_client")


def add_parser(subparsers: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = subparsers.add_parser(
        "serve",
        help="serve snapshots to containerd",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--address", metavar="SOCKET", help="where to listen (default: /run/layerfs/layerfs.sock)")
    parser.add_argument("--root", metavar="DIR", help="the store (default: /var/lib/layerfs; LAYERFS_ROOT)")
    parser.add_argument("--config", metavar="FILE", help="TOML; what stands on the command line counts before it")
    parser.add_argument("--snapshotter", metavar="NAME", help="for requests that name none (default: auto)")
    parser.add_argument("--containerd", metavar="SOCKET", help="containerd's socket, for the diff service")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="numbers for Prometheus, and a page (default: none)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default: info")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--print-config",
        nargs="?",
        const="containerd-1",
        choices=("containerd-1", "containerd-2", "buildkitd", "nerdctl"),
        help="print what a program's configuration needs (default: containerd-1); end",
    )
    what.add_argument("--check", action="store_true", help="say whether this configuration would serve; end")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve, check, or print."""
    lacking = [name for name in _NEEDS if find_spec(name) is None]
    if lacking:
        raise Unsupported(f"layerfs serve needs {', '.join(lacking)}", "pip install 'layerfs[daemon]'")
    config = _config(arguments)
    import layerfs
    from layerfs.daemon.served_store import ServedStore

    with layerfs.open_store(config.root) as store:
        served = ServedStore(store, config.snapshotter)
        if arguments.print_config:
            return _print_config(arguments.print_config, config, served)
        if arguments.check:
            return _check(config, served)
        return _serve(arguments, config, served)


def _config(arguments: argparse.Namespace) -> "Config":
    from layerfs.daemon.config import Config

    names = ("address", "root", "snapshotter", "containerd", "metrics", "log_level")
    overrides: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    path = None if arguments.config is None else os.path.abspath(os.fsencode(arguments.config))
    return Config.read(path, overrides)


def _print_config(program: str, config: "Config", served: "ServedStore") -> int:
    from layerfs.daemon.client_config import configuration

    usable = [name for name, why_not in served.store.drivers().items() if not why_not]
    drivers = [(name, served.store.snapshotter(name).capabilities) for name in usable]
    sys.stdout.write(configuration(program, config.address, drivers))
    return 0


def _check(config: "Config", served: "ServedStore") -> int:
    """Say what would be served; 1 if nothing could be."""
    from layerfs.daemon.address import Address
    from layerfs.daemon.metrics import bind
    from layerfs.sys.terminal import one_line as plain

    Address(os.fsencode(config.address)).close()
    best = served.snapshotter("").name
    print(f"address      {plain(config.address)}: free")
    print(f"store        {plain(config.root)}: opens")
    if config.metrics:
        bind(config.metrics).server_close()
        print(f"metrics      {config.metrics}: free")
    for name, why_not in served.store.drivers().items():
        print(f"{'layerfs-' + name:<12} {plain(why_not) or 'can be served'}{', the default' if name == best else ''}")
    return 0


def _serve(arguments: argparse.Namespace, config: "Config", served: "ServedStore") -> int:
    import asyncio
    import gc

    gc.enable()  # the command line began without
    from layerfs.daemon.activation import inherited
    from layerfs.daemon.logs import start_logging
    from layerfs.daemon.server import Daemon

    start_logging(config.log_level)
    passed = inherited()
    asyncio.run(Daemon(config, served, lambda: _config(arguments), passed).run())
    return 0
