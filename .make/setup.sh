#!/bin/sh
# All set-up for one purpose: `setup.sh run|demo|test|bench`. Quick when everything is there; says what it installs.
# Debian packages come from apt-get (as root, else by sudo), Python packages from pip into .venv. LAYERFS_USER names the
# unprivileged user that demo and tests use.
set -eu
umask 022  # the unprivileged user must be able to read what is installed
purpose=${1:-run}
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-/usr/bin/python3}  # Debian's own: its headers are those of python3-dev
user=${LAYERFS_USER:-layerfs-test}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo -- "$@"
    else die "needs root: $* (run this as root, or install sudo)"
    fi
}

wanted() {  # package names for the purpose
    case $purpose in run) set -- run ;; *) set -- run "$purpose" ;; esac
    for list; do sed -e 's/#.*//' -e '/^ *$/d' ".make/packages/$list"; done | sort -u
}

missing() {
    # shellcheck disable=SC2046
    { dpkg-query -W -f '${Package} ${db:Status-Status}\n' $(wanted) 2>/dev/null || true; } |
        awk '$2 == "installed" { print $1 }' | sort -u >"$work/there"
    wanted | comm -23 - "$work/there"
}

debian_packages() {
    command -v apt-get >/dev/null || die "no apt-get: layerfs is set up on Debian 12 or newer"
    lacking=$(missing)
    [ -n "$lacking" ] || return 0
    say "installing Debian packages:" $lacking
    install="env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends"
    # Old package lists point at files that are gone: fetch them when there are none, and again when it fails.
    set -- /var/lib/apt/lists/*_Packages*
    [ -e "$1" ] || as_root apt-get -q update
    as_root $install $lacking </dev/null >"$work/apt" 2>&1 ||
        { as_root apt-get -q update && as_root $install $lacking </dev/null; } >"$work/apt" 2>&1 ||
        { tail -n 20 "$work/apt" >&2; die "apt-get failed"; }
    lacking=$(missing)
    [ -z "$lacking" ] || die "apt-get did not install:" $lacking
}

extras() { case $purpose in test) echo test ;; bench) echo bench,test ;; *) echo none ;; esac; }

installed() {  # whether what this purpose needs, or more, went in with this pyproject.toml and these C sources
    [ -x .venv/bin/layerfs ] || return 1
    case $purpose in test) set -- test bench,test ;; bench) set -- bench,test ;; *) set -- none test bench,test ;; esac
    for more; do [ "$(cat ".venv/.layerfs-$more" 2>/dev/null)" = "$key" ] && return 0; done
    return 1
}

python_packages() {
    key=$({ pwd; cat pyproject.toml layerfs/extensions.py layerfs/batch/*.[ch] layerfs/cli/*.c layerfs/lane/*.[ch] layerfs/pysquashfs/*.[ch]; readlink -f "$PYTHON"; } | sha256sum)
    ! installed || return 0
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$PYTHON is older than Python 3.11"
    if ! .venv/bin/python -c 'import pip' 2>/dev/null || ! grep -qsF "$PWD/.venv" .venv/bin/pip; then
        say "making a virtual environment in .venv with $PYTHON"
        "$PYTHON" -m venv --clear .venv
    fi
    say "installing Python packages into .venv: layerfs and what it needs (pyfuse3 and our C extensions are compiled), extras: $(extras)"
    case $purpose in test | bench) project=".[$(extras)]" ;; *) project=. ;; esac
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --config-settings editable_mode=compat --editable "$project" </dev/null  # a plain path: its import hook takes 15 ms
    .venv/bin/python -m compileall -q layerfs snapshotters  # whoever may not write here would compile at every start
    printf '%s\n' "$key" >".venv/.layerfs-$(extras)"
}

fuse_device() {
    [ -e /dev/fuse ] || as_root modprobe fuse 2>/dev/null || true
    [ -e /dev/fuse ] || { say "no /dev/fuse: only --driver=kernel and 'layerfs run' will work"; return 0; }
    [ "$(stat -c %a /dev/fuse)" = 666 ] && return 0
    say "opening /dev/fuse to everybody (mode 0666, as udev does)"
    as_root chmod 0666 /dev/fuse
}

mount_table() {  # fusermount3 -u reads it; minimal trees lack it
    [ -e /etc/mtab ] && return 0
    say "linking /etc/mtab to /proc/self/mounts (fusermount3 needs it to unmount)"
    as_root ln -sf ../proc/self/mounts /etc/mtab
}

unprivileged_user() {
    [ "$(id -u)" = 0 ] || return 0  # whoever runs this is unprivileged enough
    if ! id "$user" >/dev/null 2>&1; then
        say "adding the unprivileged user $user (no login, no home)"
        useradd --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin --user-group "$user"
    fi
    for kind in uid gid; do
        grep -qs "^$user:" "/etc/sub$kind" && continue
        first=$(awk -F: 'BEGIN { n = 100000 } $2 + $3 > n { n = $2 + $3 } END { print n }' "/etc/sub$kind" 2>/dev/null || echo 100000)
        say "giving $user 65536 subordinate ${kind}s from $first"
        usermod "--add-sub${kind}s" "$first-$((first + 65535))" "$user"
    done
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debian_packages
python_packages
fuse_device
mount_table
case $purpose in run) ;; *) unprivileged_user ;; esac
