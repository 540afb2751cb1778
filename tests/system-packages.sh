#!/bin/sh
# The packages of the system that tests need: fonts that the reader's pages are set in, a browser for the explorer's.
# Installs what is missing where it may (Debian or Ubuntu, as root); otherwise says what to install, and fails.
set -eu

missing=
needs() { # needs PACKAGE COMMAND...: the package is missing where the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
font() { find /usr/share/fonts /usr/local/share/fonts "$HOME/.fonts" "$HOME/.local/share/fonts" -name "$1" 2>/dev/null | grep -q .; }
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

needs fonts-liberation2 font LiberationSans-Regular.ttf
needs fonts-dejavu-core font DejaVuSans.ttf
needs fonts-roboto-unhinted font Roboto-Regular.ttf
needs fonts-open-sans font OpenSans-Regular.ttf
needs fonts-lato font Lato-Regular.ttf
needs fonts-inter font Inter-Regular.otf
needs fonts-noto-core font NotoSans-Regular.ttf
needs fonts-cantarell font Cantarell-Regular.otf
needs fonts-crosextra-carlito font Carlito-Regular.ttf
needs chromium browser

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install --yes --no-install-recommends $missing >/dev/null 2>&1 ||
        { apt-get update >/dev/null && apt-get install --yes --no-install-recommends $missing >/dev/null; }
else
    echo "the tests need packages of the system that are not here; on Debian or Ubuntu: sudo apt-get install$missing" >&2
    exit 1
fi
