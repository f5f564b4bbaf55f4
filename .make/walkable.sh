#!/bin/sh
# Run a command so that an unprivileged user can reach this project too: `walkable.sh COMMAND...`.
# A clone below /root or in a private temporary directory cannot be entered by others. Then the command runs in a mount
# namespace of its own in which the closed directory is covered by an empty one that leads here; nothing outside changes.
set -eu
cd "$(dirname "$0")/.."
project=$(pwd -P)
user=${LAYERFS_USER:-layerfs-test}

say() { printf 'setup: %s\n' "$*" >&2; }
as_user() { setpriv --reuid="$(id -u "$user")" --regid="$(id -g "$user")" --init-groups -- "$@"; }

closed() {  # the first directory above the project that the user may not walk through
    path=
    rest=${project#/}
    while [ "$rest" != "${rest#*/}" ]; do
        path=$path/${rest%%/*}
        rest=${rest#*/}
        as_user test -x "$path" || { echo "$path"; return; }
    done
}

if [ "$(id -u)" != 0 ] || ! id "$user" >/dev/null 2>&1; then exec "$@"; fi
# Where the project itself is closed (a clone made by mktemp -d, or with umask 077), it opens for reading.
mode=$(stat -c %A "$project")
case $mode in *r-[xt]) ;; *) say "opening $project for reading (chmod a+rx)"; chmod a+rx "$project" ;; esac
over=$(closed)
if [ -n "$over" ] && [ "${1:-}" != --inside ]; then
    say "$over is closed to $user: going on in a private mount namespace where it leads here only"
    exec unshare --mount --propagation private -- sh .make/walkable.sh --inside "$@"
fi
if [ "${1:-}" = --inside ]; then
    shift
    held=$(mktemp -d /tmp/layerfs-held-XXXXXX)
    mount --bind "$project" "$held"
    mount -t tmpfs -o mode=755 layerfs "$over"
    mkdir -p "$project"
    mount --move "$held" "$project"
    rmdir "$held"
    cd "$project"
fi
if ! as_user .venv/bin/python -c 'import layerfs.errors' 2>/dev/null; then
    say "opening the project's files for reading (chmod -R a+rX .venv .make layerfs tests benchmarks)"
    chmod -R a+rX .venv .make layerfs snapshotters tests benchmarks
fi
exec "$@"
