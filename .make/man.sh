#!/bin/sh
# The man pages from docs/: `man.sh DIRECTORY` writes DIRECTORY/NAME.1 for each page there is. docs/man holds what is installed.
# go-md2man (Debian) does the work. Before it, the title becomes a header, links become the names of what they lead to, and
# tables of two columns become lists of terms, since a terminal has no room for them.
set -eu
into=$1
cd "$(dirname "$0")/../docs"
mkdir -p "$into"

links() { sed -e 's/\[\([^]]*\)\](\([a-z]*:[^)]*\))/\1 (\2)/g' -e 's/\[\([^]]*\)\]([^)]*)/\1/g'; }

terms() {
    awk -F ' *[|] *' '
        /^\|-/ { held = 0; next }        # the line above was the head of a table
        held { print term "\n: " text "\n"; held = 0 }
        /^\|/ { term = $2; text = $3; held = 1; next }
        { print }
    '
}

for name in layerfs layerfs-mount; do
    {
        printf '%% %s 1 "" "layerfs" "User commands"\n' "$name"
        sed 1d "$name.md" | links | terms
    } | go-md2man -out "$into/$name.1"
done
