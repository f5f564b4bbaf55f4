"""The tables of messages: field numbers are containerd's, as bytes show."""

from layerfs.daemon.messages import CONTENT, DIFF, SERVICES, SNAPSHOTS, TYPES, full_name, message


def test_fields_have_containerds_numbers() -> None:
    request = message(SNAPSHOTS, "CommitSnapshotRequest")(snapshotter="s", name="n", key="k", parent="p")
    assert request.SerializeToString() == b"\x0a\x01s\x12\x01n\x1a\x01k\x2a\x01p"


def test_maps_and_nested_messages_survive() -> None:
    info = message(SNAPSHOTS, "Info")(name="n", kind=3, labels={"a": "b"})
    info.created_at.seconds = 5
    again = message(SNAPSHOTS, "Info").FromString(info.SerializeToString())
    assert (again.kind, dict(again.labels), again.created_at.seconds) == (3, {"a": "b"}, 5)


def test_every_method_has_its_messages() -> None:
    for service, methods in SERVICES.items():
        package = service.rpartition(".")[0]
        for asked, answered, _, _ in methods.values():
            for word in (asked, answered):
                assert message(package, word).DESCRIPTOR.full_name == full_name(package, word)
    assert message(TYPES, "Mount")(options=["a"]).options == ["a"]
    assert message(DIFF, "DiffResponse").DESCRIPTOR.fields_by_name["diff"].number == 3
    assert message(CONTENT, "WriteContentRequest").DESCRIPTOR.fields_by_name["data"].number == 6
