"""The messages and services of containerd's API that layerfs speaks, built from tables when the daemon starts.

Field names and numbers are containerd's (api/services/{snapshots,diff,content,leases}/v1, api/types). A table is
shorter than generated code, needs no compiler of protocol buffers at build time, and no module named `types`. The
descriptors are in a pool of their own, so that a program may import containerd's stubs as well.
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, empty_pb2, field_mask_pb2, timestamp_pb2
from google.protobuf.message_factory import GetMessageClass

SNAPSHOTS: Final = "containerd.services.snapshots.v1"
DIFF: Final = "containerd.services.diff.v1"
CONTENT: Final = "containerd.services.content.v1"
LEASES: Final = "containerd.services.leases.v1"
TYPES: Final = "containerd.types"

_SCALARS: Final = {"string": 9, "bytes": 12, "int64": 3, "int32": 5, "bool": 8}  # FieldDescriptorProto.Type
_MESSAGE, _ENUM, _OPTIONAL, _REPEATED = 11, 14, 1, 3
_MAPS: Final = {"labels": "map string", "annotations": "map string", "any": "map google.protobuf.Any"}

# Of each message: its fields, as `NUMBER NAME [repeated|map] TYPE`. A type with a dot is a message, one in capitals an
# enumeration of the same file.
_TYPES_FILE: Final = {
    "Mount": ("1 type string", "2 source string", "3 target string", "4 options repeated string"),
    "Descriptor": ("1 media_type string", "2 digest string", "3 size int64", "5 annotations map string"),
}
_KEYED: Final = ("1 snapshotter string", "2 key string")
_MAKING: Final = (*_KEYED, "3 parent string", "4 labels map string")
_MOUNTED: Final = (f"1 mounts repeated {TYPES}.Mount",)
_INFO: Final = (f"1 info {SNAPSHOTS}.Info",)
_SNAPSHOTS_FILE: Final = {
    "PrepareSnapshotRequest": _MAKING,
    "PrepareSnapshotResponse": _MOUNTED,
    "ViewSnapshotRequest": _MAKING,
    "ViewSnapshotResponse": _MOUNTED,
    "MountsRequest": _KEYED,
    "MountsResponse": _MOUNTED,
    "RemoveSnapshotRequest": _KEYED,
    "CommitSnapshotRequest": (
        "1 snapshotter string", "2 name string", "3 key string", "4 labels map string", "5 parent string",
    ),
    "StatSnapshotRequest": _KEYED,
    "Info": (
        "1 name string", "2 parent string", "3 kind KIND", "4 created_at google.protobuf.Timestamp",
        "5 updated_at google.protobuf.Timestamp", "6 labels map string",
    ),
    "StatSnapshotResponse": _INFO,
    "UpdateSnapshotRequest": (
        "1 snapshotter string", f"2 info {SNAPSHOTS}.Info", "3 update_mask google.protobuf.FieldMask",
    ),
    "UpdateSnapshotResponse": _INFO,
    "ListSnapshotsRequest": ("1 snapshotter string", "2 filters repeated string"),
    "ListSnapshotsResponse": (f"1 info repeated {SNAPSHOTS}.Info",),
    "UsageRequest": _KEYED,
    "UsageResponse": ("1 size int64", "2 inodes int64"),
    "CleanupRequest": ("1 snapshotter string",),
}  # fmt: skip
_DIFF_FILE: Final = {
    "ApplyRequest": (
        f"1 diff {TYPES}.Descriptor", f"2 mounts repeated {TYPES}.Mount", "3 payloads map google.protobuf.Any",
        "4 sync_fs bool",
    ),
    "ApplyResponse": (f"1 applied {TYPES}.Descriptor",),
    "DiffRequest": (
        f"1 left repeated {TYPES}.Mount", f"2 right repeated {TYPES}.Mount", "3 media_type string", "4 ref string",
        "5 labels map string", "6 source_date_epoch google.protobuf.Timestamp",
    ),
    "DiffResponse": (f"3 diff {TYPES}.Descriptor",),
}  # fmt: skip
_CONTENT_FILE: Final = {
    "ReadContentRequest": ("1 digest string", "2 offset int64", "3 size int64"),
    "ReadContentResponse": ("1 offset int64", "2 data bytes"),
    "WriteContentRequest": (
        "1 action ACTION", "2 ref string", "3 total int64", "4 expected string", "5 offset int64", "6 data bytes",
        "7 labels map string",
    ),
    "WriteContentResponse": (
        "1 action ACTION", "2 started_at google.protobuf.Timestamp", "3 updated_at google.protobuf.Timestamp",
        "4 offset int64", "5 total int64", "6 digest string",
    ),
    "AbortRequest": ("1 ref string",),
}  # fmt: skip
_LEASES_FILE: Final = {
    "Lease": ("1 id string", "2 created_at google.protobuf.Timestamp", "3 labels map string"),
    "CreateRequest": ("1 id string", "3 labels map string"),
    "CreateResponse": (f"1 lease {LEASES}.Lease",),
}
_ENUMS: Final = {
    SNAPSHOTS: ("KIND", "Kind", ("UNKNOWN", "VIEW", "ACTIVE", "COMMITTED")),
    CONTENT: ("ACTION", "WriteAction", ("STAT", "WRITE", "COMMIT")),
}

# Of each service: method -> (request, answer, whether the client streams, whether the server does).
Methods = Mapping[str, tuple[str, str, bool, bool]]
EMPTY: Final = "google.protobuf.Empty"
SERVICES: Final[Mapping[str, Methods]] = {
    f"{SNAPSHOTS}.Snapshots": {
        "Prepare": ("PrepareSnapshotRequest", "PrepareSnapshotResponse", False, False),
        "View": ("ViewSnapshotRequest", "ViewSnapshotResponse", False, False),
        "Mounts": ("MountsRequest", "MountsResponse", False, False),
        "Commit": ("CommitSnapshotRequest", EMPTY, False, False),
        "Remove": ("RemoveSnapshotRequest", EMPTY, False, False),
        "Stat": ("StatSnapshotRequest", "StatSnapshotResponse", False, False),
        "Update": ("UpdateSnapshotRequest", "UpdateSnapshotResponse", False, False),
        "List": ("ListSnapshotsRequest", "ListSnapshotsResponse", False, True),
        "Usage": ("UsageRequest", "UsageResponse", False, False),
        "Cleanup": ("CleanupRequest", EMPTY, False, False),
    },
    f"{DIFF}.Diff": {
        "Apply": ("ApplyRequest", "ApplyResponse", False, False),
        "Diff": ("DiffRequest", "DiffResponse", False, False),
    },
    f"{CONTENT}.Content": {
        "Read": ("ReadContentRequest", "ReadContentResponse", False, True),
        "Write": ("WriteContentRequest", "WriteContentResponse", True, True),
        "Abort": ("AbortRequest", EMPTY, False, False),
    },
    f"{LEASES}.Leases": {"Create": ("CreateRequest", "CreateResponse", False, False)},
}


def _add_field(message: Any, package: str, line: str) -> None:
    """Add a field to a DescriptorProto, and the entry type that a map needs."""
    number, name, *kind = line.split()
    field = message.field.add(name=name, number=int(number), label=_OPTIONAL)
    if kind[0] in ("repeated", "map"):
        field.label = _REPEATED
    word = kind[-1]
    if kind[0] == "map":
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "1 key string")
        _add_field(entry, package, f"2 value {word}")
        field.type = _MESSAGE
        field.type_name = f".{package}.{message.name}.{entry.name}"
    elif word in _SCALARS:
        field.type = _SCALARS[word]
    elif "." in word:
        field.type = _MESSAGE
        field.type_name = f".{word}"
    else:
        field.type = _ENUM
        field.type_name = f".{package}.{_ENUMS[package][1]}"


def _file(path: str, package: str, table: Mapping[str, tuple[str, ...]], needs: tuple[str, ...]) -> Any:
    """Return the description of a file of messages, with the services of its package."""
    file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3", dependency=needs)
    for name, lines in table.items():
        message = file.message_type.add(name=name)
        for line in lines:
            _add_field(message, package, line)
    if package in _ENUMS:
        _, name, words = _ENUMS[package]
        enum = file.enum_type.add(name=name)
        for number, word in enumerate(words):
            enum.value.add(name=word, number=number)
    for full, methods in SERVICES.items():
        if full.rpartition(".")[0] == package:
            service = file.service.add(name=full.rpartition(".")[2])
            for name, (asked, answered, streams, streamed) in methods.items():
                service.method.add(
                    name=name,
                    input_type=f".{full_name(package, asked)}",
                    output_type=f".{full_name(package, answered)}",
                    client_streaming=streams,
                    server_streaming=streamed,
                )
    return file


def full_name(package: str, word: str) -> str:
    """Return a message's whole name; one with a dot is whole already."""
    return word if "." in word else f"{package}.{word}"


def _build() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    known = [module.DESCRIPTOR for module in (any_pb2, empty_pb2, field_mask_pb2, timestamp_pb2)]
    for described in known:
        pool.AddSerializedFile(described.serialized_pb)
    google = tuple(described.name for described in known)
    base = "github.com/containerd/containerd/api"
    types = f"{base}/types/types.proto"
    pool.AddSerializedFile(_file(types, TYPES, _TYPES_FILE, ()).SerializeToString())
    for part, package, table in (
        ("snapshots", SNAPSHOTS, _SNAPSHOTS_FILE),
        ("diff", DIFF, _DIFF_FILE),
        ("content", CONTENT, _CONTENT_FILE),
        ("leases", LEASES, _LEASES_FILE),
    ):
        path = f"{base}/services/{part}/v1/{part}.proto"
        pool.AddSerializedFile(_file(path, package, table, (*google, types)).SerializeToString())
    return pool


POOL: Final = _build()


def message(package: str, word: str) -> Any:
    """Return the class of a message, by its package and its name."""
    return GetMessageClass(POOL.FindMessageTypeByName(full_name(package, word)))
