"""The identity of a command in its tree (user, groups, environment), assumed after the tree has become the root."""

import errno
import os
from dataclasses import dataclass

from layerfs.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Identity:
    """The whole environment, the working directory (made if it is missing), and the ids."""

    environment: tuple[bytes, ...]
    directory: bytes
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def variables(self) -> dict[bytes, bytes]:
        """Return the environment by names."""
        pairs = (entry.partition(b"=") for entry in self.environment)
        return {name: value for name, _, value in pairs}

    def assume(self) -> None:
        """Become it; for a child that is root in its tree. Raises Unsupported for ids that are not there."""
        os.makedirs(self.directory, exist_ok=True)
        os.chdir(self.directory)
        try:
            os.setgroups(self.groups)
        except PermissionError:  # a user namespace of one id has none to give
            if self.groups:
                raise self._refused() from None
        try:
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            raise self._refused() from None

    def _refused(self) -> Unsupported:
        return Unsupported(
            f"the command is to run as {self.uid}:{self.gid}, which this user namespace does not have",
            "give the user ranges in /etc/subuid and /etc/subgid, or run it as --user 0",
        )
