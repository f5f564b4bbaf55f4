"""Environment markers."""

import pytest

from layerfs.plan.markers import environment, holds

VALUES = environment("3.11")


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ('python_version < "3.8"', False),
        ('python_version >= "3.8"', True),
        ('python_version < "3.9" or python_version ~= "3.11"', True),
        ('python_version == "3.11.0"', True),
        ("sys_platform == 'win32'", False),
        ("sys_platform != 'win32' and os_name == 'posix'", True),
        ("extra == 'test'", False),
        ("(extra == 'a' or extra == '') and platform_system == 'Linux'", True),
        ("extra == 'a' and (python_version > '3' or os_name == 'posix')", False),
        ("'linux' in sys_platform", True),
        ("'win' not  in sys_platform", True),
        ("implementation_name == 'pypy'", False),
    ],
)
def test_markers_hold_or_not(marker: str, expected: bool) -> None:
    assert holds(marker, VALUES) is expected


@pytest.mark.parametrize(
    "marker", ["", "nonsense", "os_name ==", "(os_name == 'x'", "os_name == 'x')", "a b c", "(" * 5000]
)
def test_what_is_not_understood_is_taken_for_true(marker: str) -> None:
    assert holds(marker, VALUES)
