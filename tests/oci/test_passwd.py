"""Users of an image, by its own files."""

import pytest

from layerfs.errors import InvalidArgument
from layerfs.oci.passwd import User, resolve_user

FILES = {
    "etc/passwd": [
        "root:x:0:0::/root:/bin/sh",
        "bad line",
        "me:x:7:8::/home/me:/bin/sh",
        "odd:x:nan:1::/:/",
        "7x:x:9:9:::",
        "7:x:1000:1000::/seven:/",
        "nogroup:x:11:many::/:/",
    ],
    "etc/group": ["root:x:0:", "g8:x:8:", "extra:x:20:you,me", "more:x:21:me"],
}


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (), "/root")), ("me", User(7, 8, (20, 21), "/home/me")), ("7", User(7, 8, (20, 21),
        "/home/me")),
        ("me:extra", User(7, 20, (), "/home/me")), ("me:99", User(7, 99, (), "/home/me")), ("1234", User(1234, 0)),
        ("1234:5", User(1234, 5)), ("7:8", User(7, 8, (), "/home/me")), ("me:", User(7, 8, (20, 21), "/home/me")),
    ],
)  # fmt: skip
def test_user_of_the_image(text: str, user: User) -> None:
    assert resolve_user(text, lambda path: FILES[path]) == user


@pytest.mark.parametrize(
    "text", ["nobody-here", "me:nothing", "odd", "nogroup", "11", "-1", "4294967295", "99999999999", "²"]
)
def test_user_that_is_none_is_an_error_and_not_root(text: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve_user(text, lambda path: FILES[path])


def test_image_without_files_has_numbers_only() -> None:
    assert resolve_user("5:6", lambda path: []) == User(5, 6)
    assert resolve_user("", lambda path: []) == User(0, 0)
