"""Errors as gRPC has them."""

import errno
import logging

import pytest

from layerfs.daemon.status import status_of
from layerfs.errors import AlreadyExists, Corrupt, InvalidArgument, LayerfsError, NotFound, NotReady, Unsupported


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("x", "y"), "INVALID_ARGUMENT"),
        (NotFound("x", "y"), "NOT_FOUND"),
        (AlreadyExists("x", "y"), "ALREADY_EXISTS"),
        (NotReady("x", "y"), "FAILED_PRECONDITION"),
        (Unsupported("x", "y"), "UNIMPLEMENTED"),
        (Corrupt("x", "y"), "DATA_LOSS"),
        (LayerfsError("x", "y"), "INTERNAL"),
    ],
)
def test_our_errors_keep_their_sentence(error: Exception, code: str) -> None:
    found, text = status_of(error)
    assert (found.name, text) == (code, "x (hint: y)")


def test_a_full_disk_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    found, text = status_of(OSError(errno.ENOSPC, "No space left on device", "/secret/path"))
    assert found.name == "RESOURCE_EXHAUSTED"
    assert text.startswith("the store's filesystem is full: No space left on device (hint: ")


def test_a_bug_is_logged_and_tells_a_client_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found, text = status_of(ValueError("inner matters"))
    assert found.name == "INTERNAL"
    assert "inner matters" not in text
    assert "inner matters" in caplog.text
