#!/usr/bin/env bash
# Runs the tests on every Python from 3.11 on that this machine has, each in its own environment .venv-3.x.
# Arguments go to pytest; WORKERS is the number of its processes (default: 2).
set -euo pipefail
cd "$(dirname "$0")/.."

# Prints the interpreter for 3.MINOR, from PATH or from pyenv. What is there need not run: pyenv's shims do not always.
find_python() {
    local candidate
    for candidate in "python3.$1" "$HOME/.pyenv/versions/3.$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info[:2] != (3, $1))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

run_tests() {
    PYTHON=$2 scripts/environment.sh ".venv-3.$1" develop &&
        ".venv-3.$1/bin/python" -m pytest -n "${WORKERS:-2}" "${@:3}"
}

summary=()
failed=0
for minor in 11 12 13 14 15; do
    if ! python=$(find_python "$minor"); then
        summary+=("3.$minor: not on this machine")
        continue
    fi
    echo "== Python 3.$minor: $python"
    if run_tests "$minor" "$python" "$@"; then
        summary+=("3.$minor: passed")
    else
        summary+=("3.$minor: FAILED")
        failed=1
    fi
done
printf '%s\n' "== Summary" "${summary[@]}"
exit "$failed"
