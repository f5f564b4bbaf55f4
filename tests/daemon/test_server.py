"""The daemon's life: health, reflection, HUP, readiness, two at once."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.daemon.client import Client, Served, code_of, serving
from tests.host import BIN
from tests.waiting import PATIENCE


def test_health_and_reflection_answer(client: Client) -> None:
    code_of(client.Stat, key="wake")
    answer = health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    found = ProtoReflectionDescriptorDatabase(client.channel)
    assert "containerd.services.snapshots.v1.Snapshots" in found.get_services()
    described = found.FindFileContainingSymbol("containerd.services.snapshots.v1.Snapshots")
    assert "PrepareSnapshotRequest" in [message.name for message in described.message_type]


def test_a_second_daemon_at_the_address_is_refused(served: Served) -> None:
    command: list[str | Path] = [BIN / "layerfs", "serve", "--address", served.address, "--root", served.store]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "another daemon listens" in done.stderr


def test_readiness_is_told(scratch: Path, monkeypatch: object) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(os.fspath(scratch / "notify"))
        os.environ["NOTIFY_SOCKET"] = os.fspath(scratch / "notify")
        try:
            with serving(scratch):
                assert listener.recv(100) == b"READY=1"
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert listener.recv(100) == b"STOPPING=1"


def test_hup_rereads_what_may_change_and_survives_what_is_wrong(scratch: Path) -> None:
    config = scratch / "c.toml"
    config.write_text('log_level = "info"\n')
    with serving(scratch, "--config", str(config)) as daemon, Client(daemon.address) as client:
        for text, said in (("log_level = 5\n", "stays as it was"), ('log_level = "debug"\n', "was read again")):
            config.write_text(text)
            daemon.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + PATIENCE
            while said not in daemon.log():
                assert time.monotonic() < end
                time.sleep(0.02)
        assert code_of(client.Prepare, key="k") == "OK"
        answered = [json.loads(line) for line in daemon.log().splitlines() if '"Prepare"' in line]
        assert answered[0]["status"] == "OK"


def test_a_channel_outlives_a_restart(served: Served, client: Client) -> None:
    assert code_of(client.Prepare, key="a") == "OK"
    assert served.stop() == 0
    served.start()
    assert code_of(client.Stat, key="a") == "OK"


def test_it_starts_beside_a_store_that_another_process_uses(served: Served, client: Client) -> None:
    command: list[str | Path] = [BIN / "layerfs", "snapshot", "prepare", "--snapshotter", "overlay", "by-hand"]
    subprocess.run([*command, "--root", served.store], check=False, capture_output=True, timeout=PATIENCE)
    assert code_of(client.Prepare, key="mine") == "OK"
    assert grpc.StatusCode.OK.name == "OK"
