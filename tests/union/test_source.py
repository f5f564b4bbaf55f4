"""No path of a layer, an upper or a work directory is ever followed: the source of the union has no call that would."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import layerfs.union

ROOM = Path(layerfs.union.__file__).parent
# What follows a symlink by its default, or cannot but follow one. sys/target.py has a form of each that does not.
NEVER = {
    "access", "chdir", "chflags", "chmod", "chown", "copy_xattr", "fwalk", "getxattr", "lchown", "listxattr",
    "makedirs", "pathconf", "removedirs", "removexattr", "renames", "setxattr", "stat", "statvfs", "truncate", "utime",
    "walk",
}  # fmt: skip
# What does not follow the last name, if it is asked of an open directory.
AT = {
    "link": ("src_dir_fd", "dst_dir_fd"), "lstat": ("dir_fd",), "mkdir": ("dir_fd",), "mkfifo": ("dir_fd",),
    "mknod": ("dir_fd",), "open": ("dir_fd",), "readlink": ("dir_fd",), "rename": ("src_dir_fd", "dst_dir_fd"),
    "replace": ("src_dir_fd", "dst_dir_fd"), "rmdir": ("dir_fd",), "symlink": ("dir_fd",), "unlink": ("dir_fd",),
}  # fmt: skip
# Paths that whoever mounts has given, before anything of them is held open.
GIVEN = {
    ("validate.py", "os.stat(path)"), ("validate.py", "os.stat(place)"), ("validate.py", "os.path.realpath(path)"),
    ("validate.py", "os.path.realpath(at)"),
    ("layers.py", "os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)"), ("work.py", "os.open(path, _OPEN)"),
    ("work.py", "os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)"),
    # In this user's own runtime directory.
    ("work.py", "os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 384)"),
    # Of an open directory, by its descriptor.
    ("claim.py", "os.setxattr(upper, CLAIM, own, os.XATTR_CREATE)"), ("claim.py", "os.setxattr(upper, CLAIM, own)"),
    ("claim.py", "os.setxattr(upper, CLAIM, own_process().spell(), os.XATTR_REPLACE)"),
    ("claim.py", "os.getxattr(upper, CLAIM)"), ("claim.py", "os.removexattr(upper, CLAIM)"),
}  # fmt: skip


def faults(source: str, file: str) -> Iterator[str]:
    """Yield each call in a module that may follow a path, or open something before its type is known."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            text = ast.unparse(node)
            if (file, text) not in GIVEN and _is_fault(node):
                yield f"{file}:{node.lineno}: {text}"


def _is_fault(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in ("open", "io.open", "shutil.rmtree", "shutil.copy", "os.path.exists", "os.path.realpath", "glob.glob"):
        return True
    if not name.startswith("os."):
        return False
    function, keywords = name[3:], {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if function in NEVER:
        return True
    if function == "scandir" or function == "listdir":
        return not call.args or "path" in ast.unparse(call.args[0])
    if function not in AT:
        return False
    if not all(word in keywords for word in AT[function]):
        return True
    if function == "link":
        return keywords.get("follow_symlinks") != "False"
    return function == "open" and _opens_blindly(ast.unparse(call.args[1]), call)


def _opens_blindly(flags: str, call: ast.Call) -> bool:
    """Tell whether an open may follow a symlink, or open a FIFO or a device."""
    if flags.isidentifier():
        return not flags.isupper() and not _assigned_safely(flags)
    makes = "O_CREAT" in flags and "O_EXCL" in flags
    return not makes and not ("O_NOFOLLOW" in flags and ("O_DIRECTORY" in flags or "O_PATH" in flags))


def _assigned_safely(name: str) -> bool:
    return name == "flags"  # in mutate.create, which the next test looks at


def test_no_call_in_the_union_follows_a_path() -> None:
    found = [fault for path in sorted(ROOM.glob("*.py")) for fault in faults(path.read_text(), path.name)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "os.chmod(path, 0o600)", "os.chmod(name, 0, dir_fd=at)", "os.stat(name, dir_fd=at)", "os.utime(p, ns=(1, 1))",
        "os.setxattr(p, 'a', b'', follow_symlinks=False)", "os.open(name, os.O_RDONLY, dir_fd=at)",
        "os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=at)", "os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at)",
        "os.link(a, b, src_dir_fd=x, dst_dir_fd=y)", "os.rename(a, b)", "os.unlink(a)", "open(p)", "os.truncate(p, 0)",
        "os.open(path, flags | os.O_DIRECTORY)", "os.readlink(p)", "os.lstat(p)",
    ],
)  # fmt: skip
def test_such_a_call_is_found(code: str) -> None:
    assert list(faults(f"import os\n{code}", "x.py"))


@pytest.mark.parametrize(
    "code",
    [
        "os.fstat(fd)", "os.lstat(name, dir_fd=at)", "os.open(n, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=at)",
        "os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)", "os.unlink(a, dir_fd=at)",
        "os.link(a, b, src_dir_fd=x, dst_dir_fd=y, follow_symlinks=False)", "os.pread(fd, 1, 0)",
    ],
)  # fmt: skip
def test_no_other_call_is_found(code: str) -> None:
    assert not list(faults(f"import os\n{code}", "x.py"))
