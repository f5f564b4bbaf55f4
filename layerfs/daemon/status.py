"""Errors as gRPC has them: the one place where an exception becomes a status."""

import errno
import logging
from typing import Final

import grpc

from layerfs.errors import (
    FULL,
    MAKE_ROOM,
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    LayerfsError,
    NotFound,
    NotReady,
    Unsupported,
)

_log = logging.getLogger(__name__)
_CLASSES: Final = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    Corrupt: grpc.StatusCode.DATA_LOSS,
}
_ERRNOS: Final = {
    errno.ENOSPC: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.EDQUOT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.EMFILE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.ENFILE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.ENOMEM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.EACCES: grpc.StatusCode.PERMISSION_DENIED,
    errno.EPERM: grpc.StatusCode.PERMISSION_DENIED,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status and the sentence for an error; what is a bug is logged with its traceback."""
    if isinstance(error, LayerfsError):
        code = next((code for kind, code in _CLASSES.items() if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
        return code, str(error)
    if isinstance(error, OSError):
        _log.warning("request failed: %s", error)
        what = error.strerror or str(error)  # no path of ours: a client needs none
        if error.errno in FULL:
            what = f"the store's filesystem is full: {what} (hint: {MAKE_ROOM})"
        return _ERRNOS.get(error.errno or 0, grpc.StatusCode.INTERNAL), what
    _log.error("a bug in a request", exc_info=error)
    return grpc.StatusCode.INTERNAL, "a bug in layerfs; its log has more"
