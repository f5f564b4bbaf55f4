#!/bin/bash
# The proof for a stranger's machine: `bare.sh [setup|demo|test|install|shell]` in a minimal Debian made for it.
# The tree has make and certificates and nothing else of ours; /dev and /sys are the host's, the process and mount
# namespaces its own. What is committed is cloned into it. BARE_KEEP=1 keeps the tree, ARGS go to make.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "bare: needs root" >&2; exit 1; }

if [ "${1:-}" = --inside ]; then
    tree=$2
    what=$3
    mount --bind "$tree" "$tree"
    mount --rbind /dev "$tree/dev"
    mount --rbind /sys "$tree/sys"
    mount -t proc proc "$tree/proc"
    if [ -d "${PIP_FIND_LINKS:-}" ]; then
        mkdir -p "$tree$PIP_FIND_LINKS"
        mount --bind "$PIP_FIND_LINKS" "$tree$PIP_FIND_LINKS"
    fi
    # Not chroot: in a chroot the kernel refuses user namespaces, which layerfs run and podman need.
    cd "$tree"
    mkdir -p .outside
    pivot_root . .outside
    umount -l .outside
    rmdir .outside
    cd /src/layerfs
    case $what in
        shell) exec bash ;;
        install)
            make setup
            /usr/bin/python3 -m venv /tmp/fresh
            /tmp/fresh/bin/pip install --quiet .
            cd / && exec /tmp/fresh/bin/layerfs --version
            ;;
        *) exec make "$what" ${ARGS:+"ARGS=$ARGS"} ;;
    esac
fi

what=${1:-demo}
tree=$(mktemp -d /var/tmp/layerfs-bare-XXXXXX)
cleanup() {
    rm -f "$tree.log"
    if [ -n "${BARE_KEEP:-}" ]; then echo "bare: kept $tree"; else rm -rf --one-file-system "$tree"; fi
}
trap cleanup EXIT
inner=
trap 'test -z "$inner" || { kill -KILL "$inner"; wait "$inner" || true; }; exit 130' INT TERM
chmod 755 "$tree"

echo "bare: making a minimal Debian in $tree"
.make/debian.sh "$tree" make ca-certificates >"$tree.log" 2>&1 || { tail -n 30 "$tree.log" >&2; exit 1; }
rm -f "$tree.log"
for file in /etc/pip.conf /etc/resolv.conf /etc/hosts; do
    if [ -e "$file" ]; then cp -L "$file" "$tree$file"; fi
done
mkdir -p "$tree/src"
git -c safe.directory='*' clone --quiet --no-hardlinks "file://$PWD" "$tree/src/layerfs"

echo "bare: make $what in it, at commit $(git -c safe.directory='*' rev-parse --short HEAD)"
variables=()
while IFS= read -r line; do
    variables+=("$line")
done < <(env | grep -E '^(PIP_[A-Z_]+|https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY|SSL_CERT_FILE|CI|ARGS|TERM)=')
started=$SECONDS
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "${variables[@]}" \
    unshare --mount --propagation private --pid --fork --kill-child -- bash .make/bare.sh --inside "$tree" "$what" <&0 &
inner=$!  # in the background, so that a signal to us ends it at once; unshare itself ignores SIGTERM
wait "$inner"
echo "bare: make $what succeeded in $((SECONDS - started)) s"
