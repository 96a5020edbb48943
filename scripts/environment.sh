#!/usr/bin/env bash
# Makes or renews a virtual environment with the package, editable, in it.
#
#   environment.sh DIRECTORY demo      what serving the examples needs
#   environment.sh DIRECTORY develop   what the checks and the tests need, too
#
# PYTHON names the interpreter (default: python3). When all is installed, DIRECTORY/.demo or DIRECTORY/.develop is there.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
purpose=$2
export PYTHON=${PYTHON:-python3}

case $purpose in
    demo) tools=(hatchling editables) extras=server ;;
    develop) tools=(--requirement requirements-dev.txt) extras=all ;;
    *) echo "environment.sh: a purpose is demo or develop, not $purpose" >&2; exit 2 ;;
esac

if ! version=$("$PYTHON" -c 'import sys; print(*sys.version_info[:3], sep=".")'); then
    echo "There is no working $PYTHON here. Hubbub needs Python 3.11 or newer: PYTHON=/path/to/python3 chooses one." >&2
    exit 1
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$PYTHON is Python $version; Hubbub needs 3.11 or newer: PYTHON=python3.11 chooses another." >&2
    exit 1
fi

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    scripts/system-packages.sh venv
    echo "Making $venv with Python $version"
    "$PYTHON" -m venv --clear "$venv"
fi
echo "Installing into $venv what is needed for: $purpose"
install "${tools[@]}"
# The build tools are in the environment already, in the versions that constraints.txt gives.
install --no-build-isolation --editable ".[$extras]"
if [ "$purpose" = develop ]; then
    # The oldest uvicorn that is supported, beside the newest one: tests/integration/servers.py runs it.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
        --target "$venv/oldest" uvicorn==0.53.0
    # What checks the types for front ends: tests/node/__init__.py runs it.
    if ! cmp --silent tests/node/package.json "$venv/node/package.json"; then
        rm -rf "$venv/node" "$venv/node.new"
        mkdir "$venv/node.new"
        cp tests/node/package.json "$venv/node.new"
        "$venv/bin/npm" --prefix "$venv/node.new" install --ignore-scripts --no-package-lock --no-audit --no-fund \
            --no-update-notifier --loglevel error >/dev/null
        mv "$venv/node.new" "$venv/node"
    fi
fi
touch "$venv/.$purpose"
