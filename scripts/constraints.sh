#!/usr/bin/env bash
# Writes constraints.txt anew, with the newest versions that fit together. PYTHON should be the oldest supported one.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement requirements-dev.txt
"$venv/bin/python" -m pip install --quiet --no-build-isolation --editable ".[all]"
{
    echo "# The version of everything that the project is developed and tested with, written by scripts/constraints.sh."
    "$venv/bin/python" -m pip freeze --exclude-editable
} >"$venv/constraints.txt"
cp "$venv/constraints.txt" constraints.txt
