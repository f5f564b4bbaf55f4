"""Crash tests run as those of the semantics do: in processes and mount namespaces of their own."""

from tests.semantics.conftest import pytest_pyfunc_call, union

__all__ = ["pytest_pyfunc_call", "union"]
