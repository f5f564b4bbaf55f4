"""A program that outlives the service which starts it: in a scope of its own (systemd.scope(5)) where there is systemd.

In the cgroup of its service it would be killed with it under `KillMode=control-group`, and counted to its memory.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from layerfs.sys.namespaces import in_user_namespace

RUNNING: Final = "/run/systemd/system"  # is there if systemd is the init (sd_booted(3))
# Without the scope if it cannot be made: no bus, no permission. The program may then run twice, which it must allow.
_SCRIPT: Final = 'systemd-run {user}--scope --quiet --collect -- "$@" || exec "$@"'


def in_own_scope(
    words: Sequence[str], environment: Mapping[str, str] = os.environ, running: str = RUNNING
) -> list[str]:
    """Return the command wrapped to run in a scope; unchanged if this process is no service of systemd's."""
    if "INVOCATION_ID" not in environment or not os.path.isdir(running) or shutil.which("systemd-run") is None:
        return list(words)
    user = "" if os.geteuid() == 0 and not in_user_namespace() else "--user "
    return ["/bin/sh", "-c", _SCRIPT.format(user=user), "sh", *words]
