#!/bin/bash
# `make demo`: a Debian made of three layers, used by somebody who is not root. ARCHITECTURE.md, "The demo".
# What is slow to fetch is kept in .demo/cache (the base, the packages); everything else is made anew each time.
# DEMO_KEEP=1 keeps the layers in .demo/now.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
project=$(pwd -P)

if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "demo: making a Debian root filesystem needs root: run this as root, or install sudo" >&2; exit 1; }
    echo "demo: making a Debian root filesystem needs root, asking sudo; the rest is done as $(id -un)"
    exec sudo --preserve-env=http_proxy,https_proxy,no_proxy LAYERFS_USER="$(id -un)" bash .make/demo.sh "$@"
fi
if [ "${1:-}" != --inside ]; then  # mounts and servers of the demo cannot outlive it
    exec unshare --mount --propagation private --pid --fork --kill-child=TERM --mount-proc bash .make/demo.sh --inside
fi

user=${LAYERFS_USER:-layerfs-test}
layerfs=$project/.venv/bin/layerfs
cache=$project/.demo/cache
now=$project/.demo/now
base=$cache/base
python=$now/python
application=$now/application
started=$SECONDS

say() { printf '\n%s  [%d s]\n' "$*" "$((SECONDS - started))"; }
show() { printf '  $ %s\n' "${*//$project\//}"; "$@" 2>&1 | sed -u "s|$project/||g; s/^/    /"; }
as_user() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="$now/home" XDG_RUNTIME_DIR="$now/home/runtime" LANG=C.UTF-8 \
    setpriv --reuid="$(id -u "$user")" --regid="$(id -g "$user")" --init-groups --inh-caps=-all -- "$@"; }
show_user() { printf '  %s$ %s\n' "$user" "${*//$project\//}"; as_user "$@" 2>&1 | sed -u "s|$project/||g; s/^/    /"; }

cleanup() {
    status=$?
    trap - EXIT
    [ "$status" = 0 ] || echo "demo: FAILED" >&2
    cd /
    awk -v top="$project/.demo/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r point; do
        umount -l "$(printf '%b' "$point")"
    done
    if grep -qF " $project/.demo/" /proc/self/mountinfo; then
        echo "demo: mounts are left below .demo" >&2
        status=1
    elif [ -z "${DEMO_KEEP:-}" ]; then
        rm -rf "$now" "$cache"/*.new
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- the three layers

make_base() {
    .make/sources.sh >"$cache/sources.new"
    key=$({ sed 1,1d .make/sources.sh; cat "$cache/sources.new"; dpkg --print-architecture; } | sha256sum)
    if [ "$(cat "$base.key" 2>/dev/null)" = "$key" ]; then
        echo "  kept from an earlier run in ${base#"$project"/}"
        return
    fi
    echo "  \$ mmdebstrap --variant=minbase (this takes a minute or so)"
    rm -rf "$base" "$base.key" "$base.new"
    .make/debian.sh "$base.new" >"$cache/mmdebstrap.log" 2>&1 || { tail -n 30 "$cache/mmdebstrap.log" >&2; return 1; }
    mv "$base.new" "$base"
    printf '%s\n' "$key" >"$base.key"
}

in_root() {  # run a program inside a root filesystem, with what a program expects to find there
    local root=$1 status=0
    shift
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    mount --bind "$cache/archives" "$root/var/cache/apt/archives"
    printf '  $ chroot %s %s\n' "${root#"$project"/}" "$*"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        chroot "$root" "$@" >"$now/chroot.log" 2>&1 || status=$?
    tail -n "$((status ? 30 : 3))" "$now/chroot.log" | sed 's/^/    /'
    umount "$root/var/cache/apt/archives" "$root/etc/resolv.conf" "$root/proc"
    umount -l "$root/dev"
    return "$status"
}

make_python() {
    mkdir -p "$now/building/upper" "$now/building/work" "$now/building/root"
    show "$layerfs" mount --driver fuse "$base" "$now/building/root" --upper "$now/building/upper" --work "$now/building/work"
    show findmnt --noheadings -o TARGET,FSTYPE,SOURCE "$now/building/root"
    install=(apt-get install -q -y --no-install-recommends -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= python3)
    in_root "$now/building/root" "${install[@]}" || {
        in_root "$now/building/root" apt-get -q update
        in_root "$now/building/root" "${install[@]}"
    }
    show "$layerfs" umount "$now/building/root"
    mv "$now/building/upper" "$python"
}

make_application() {
    mkdir -p "$application"
    cp -R --no-preserve=ownership .make/demo/application/. "$application"
    chmod -R a+rX "$application"
}

# --- what they hold

count() { find "$1" -mindepth 1 "${@:2}" | wc -l; }

describe() {
    local layer=$1
    printf '  %-12s %6d directories, %6d files and links, %s\n' "$(basename "$layer")" \
        "$(count "$layer" -type d)" "$(count "$layer" '(' -type f -o -type l ')')" "$(du -sh "$layer" | cut -f1)"
    find "$layer" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' ' | fold -s -w 90 | sed 's/^/                 /'
    echo
}

origins() {  # each name of the mount's root and the layers that bring it
    local name layer
    for name in $(as_user ls -A "$1"); do
        printf '    %-8s' "$name"
        for layer in "$application" "$python" "$base"; do
            if [ -e "$layer/$name" ] || [ -L "$layer/$name" ]; then printf ' %s' "$(basename "$layer")"; fi
        done
        echo
    done
}

# --- the story

mkdir -p "$cache/archives" "$now"
chmod 755 .demo "$cache" "$now"

say "1. Layer one: a Debian root filesystem from Debian's own packages"
make_base

say "2. Layer two: apt-get install of python3 inside a writable layerfs mount of layer one; what landed in its upper is kept"
make_python

say "3. Layer three: an application"
make_application
find "$application" -type f -printf '    %P, %s bytes\n'

say "4. What each layer holds"
for layer in "$application" "$python" "$base"; do describe "$layer"; done
echo "  layer two against layer one (the first of $("$layerfs" diff "$python" | wc -l) paths):"
"$layerfs" diff "$python" | awk 'NR <= 8 { print "    " $0 }'

say "5. As $user, who is not root: the three layers with a fresh upper, through FUSE"
root=$now/home/root
mkdir -p "$now/home"/{upper,work,root,runtime}
chown -R "$user:" "$now/home"
chmod 700 "$now/home/runtime"
show_user id
owner=squash_to_uid=$(id -u "$user"),squash_to_gid=$(id -g "$user")
show_user "$layerfs" mount --driver fuse "$application" "$python" "$base" "$root" \
    --upper "$now/home/upper" --work "$now/home/work" -o "$owner"
show_user findmnt --noheadings -o TARGET,FSTYPE,SOURCE "$root"
show_user "$layerfs" status
echo "  its tree, and which layer brings what:"
origins "$root"

say "6. The application runs in it (chroot in a user namespace of $user)"
show_user unshare --user --map-root-user --mount sh -c 'mount --rbind /dev "$1/dev" && exec chroot "$1" inventory' sh "$root"

say "7. What landed in the upper"
show_user "$layerfs" diff "$root"
show_user cat "$root/etc/motd"
show_user find "$now/home/upper" -mindepth 1 -printf '%M %s %P\n'
show_user "$layerfs" umount "$root"
if [ -e "$base/usr/share/licenses" ] || [ ! -e "$base/etc/issue.net" ] || grep -q "This system holds" "$base/etc/motd"; then
    echo "demo: a layer changed" >&2
    exit 1
fi
echo "  the layers are as they were"

say "8. The same three layers without FUSE: kernel overlayfs in a private user and mount namespace"
show_user "$layerfs" run "$application" "$python" "$base" --root -- inventory --look

say "Done"
