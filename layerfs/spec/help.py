"""What each mount option means, in a line: what `-o help` prints."""

from typing import Final

from layerfs.spec.options import known_options

MEANINGS: Final = {
    "lowerdir=A:B": "layers, top first; a colon or comma in a path is written \\: or \\,",
    "lowerdir+=A": "one more layer, below the others",
    "upperdir=DIR": "where changes go; without it the mount is read-only",
    "workdir=DIR": "scratch on the upper's filesystem",
    "driver=WHO": "who serves: auto, kernel or fuse",
    "uidmapping=DISK:SHOWN:COUNT[:...]": "uids on disk, and those that are shown for them",
    "gidmapping=DISK:SHOWN:COUNT[:...]": "the same for gids",
    "squash_to_root": "everything seems to belong to root",
    "squash_to_uid=N": "everything seems to belong to this user",
    "squash_to_gid=N": "everything seems to belong to this group",
    "xattr_permissions=N": "where owner and mode are kept: 0 on the file, 1 in security., 2 in user. xattrs",
    "userxattr": "marks are user.overlay.* xattrs",
    "metacopy=on|off": "read, and copy up, files that are only metadata",
    "index=on|off": "kernel: keep hard links of a layer together, as FUSE always does",
    "static_nlink": "directories show one link",
    "acl": "POSIX ACLs (the default)",
    "noacl": "no POSIX ACLs",
    "volatile": "never wait for the disk; a crash spoils the upper",
    "fsync=0|1": "0: fsync does nothing",
    "xino=on|off|auto": "inode numbers unique over filesystems",
    "redirect_dir=on|off|follow|nofollow": "how a directory of a layer is renamed",
    "timeout=SECONDS": "how long the kernel may remember names and attributes (a day)",
    "writeback=0|1": "FUSE: 1 lets the kernel collect writes",
    "allow_other": "FUSE: let other users in (root's default)",
    "fsname=NAME": "FUSE: the source that mount(8) shows",
    "subtype=NAME": "FUSE: the type that mount(8) shows, after fuse.",
    "max_read=BYTES": "FUSE: the largest read",
    "unchecked": "FUSE: only whoever mounts may look, and no modes are checked",
    "lane": "FUSE: native code answers what needs no Python (the default)",
    "nolane": "FUSE: Python answers, with the same answers",
    "offset=BYTES": "images begin there in their files",
    "debug": "log each request",
}


def option_help(width: int | None = None) -> str:
    """Return the list of all options, those of mount(8) last, in lines of at most `width` columns where it is given."""
    longest = max(len(option) for option in MEANINGS if len(option) < 26)
    own = [f"  {option:<{longest}}  {meaning}" for option, meaning in MEANINGS.items()]
    named = {option.partition("=")[0] for option in MEANINGS}
    generic = f"as in mount(8): {' '.join(name for name in known_options() if name not in named)}"
    lines = ["mount options (-o OPTION[,OPTION...]):", *own, "", generic]
    if width is None:
        return "\n".join(lines)
    return "\n".join(part for line in lines for part in _wrap(line, width, longest + 4))


def _wrap(line: str, width: int, indent: int) -> list[str]:
    from textwrap import wrap  # 3 ms, for those who ask for help

    return wrap(line, max(width, 20), break_on_hyphens=False, subsequent_indent=" " * min(indent, width // 2)) or [""]
