#!/bin/sh
# A minimal Debian root filesystem like the host's, from the host's package sources: `debian.sh DIRECTORY [PACKAGE...]`.
# What the host's apt needs to reach them (proxy, certificates, lax dates) goes with it. Package lists stay inside.
set -eu
target=$1
shift
cd "$(dirname "$0")/.."
# shellcheck disable=SC1091
. /etc/os-release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.make/sources.sh >"$work/sources.list"
apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-Valid-Until|Check-Date)\b' >"$work/acquire" || true
case $(cat "$work/sources.list") in *https://*) set -- "$@" ca-certificates ;; esac
include=
for package; do include=$include${include:+,}$package; done
mmdebstrap --quiet --variant=minbase --skip=cleanup/apt/lists ${include:+--include="$include"} \
    --aptopt="$work/acquire" --aptopt='Acquire::Languages "none"' \
    "$VERSION_CODENAME" "$target" "$work/sources.list"
# A certificate of the host's own (a proxy's, say) is in its bundle.
if [ -e "$target/etc/ssl/certs/ca-certificates.crt" ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/ca-certificates.crt"
fi
