#!/usr/bin/env bash
# Sees to what pip cannot install: by apt-get where that is possible, else it says what to install, and fails.
#
#   system-packages.sh venv      what `python -m venv` needs; PYTHON names the interpreter (default: python3)
#   system-packages.sh browser   Chromium, and fonts for its pictures
#   system-packages.sh redis     redis-server, of which the tests start their own
set -euo pipefail

# Whether there is a Chromium that runs. Ubuntu's chromium-browser without its snap is there, but does not.
has_chromium() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if "$name" --version >/dev/null 2>&1; then return; fi
    done
    return 1
}

has_font() { [ -n "$(fc-list "$1" 2>/dev/null)" ]; }

missing_for_venv() {
    "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null ||
        "${PYTHON:-python3}" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))'
}

missing_for_browser() {
    if ! has_chromium; then
        # Debian's name; Ubuntu has it as a snap, under another.
        if grep -qs '^ID=ubuntu' /etc/os-release; then echo chromium-browser; else echo chromium; fi
    fi
    command -v fc-list >/dev/null || echo fontconfig
    has_font :lang=en || echo fonts-dejavu-core
    has_font :lang=und-zsye || echo fonts-noto-color-emoji
}

missing_for_redis() { command -v redis-server >/dev/null || echo redis-server; }

need=$1
packages=$("missing_for_$need")
[ -n "$packages" ] || exit 0

# shellcheck disable=SC2206  # one package a line, none with a space in it
packages=($packages)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}" </dev/null
    packages=$("missing_for_$need")
    [ -n "$packages" ] || exit 0
    echo "Still missing or not working after the installation:" $packages >&2
else
    echo "Missing on this system: ${packages[*]}. On Debian or Ubuntu install them with" >&2
    echo "    sudo apt-get update && sudo apt-get install --yes --no-install-recommends ${packages[*]}" >&2
    echo "and elsewhere with what the system has for it; then run make again." >&2
fi
exit 1
