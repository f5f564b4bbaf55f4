#!/bin/sh
# The host's Debian package sources as one-line apt sources, other vendors' left out: whatever mirror the host uses.
set -eu
# shellcheck disable=SC1091
. /etc/os-release
list() {
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n "s/^Debian|$VERSION_CODENAME[^|]*|//p" | sort -u
}
[ -n "$(list)" ] || apt-get -q update >&2
list | grep . || { echo "no Debian package sources for $VERSION_CODENAME on this host" >&2; exit 1; }
