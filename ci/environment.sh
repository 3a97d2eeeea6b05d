# Sourced by the README's commands: a virtual environment with what the lock file pins, made once and kept in step.
# GPU_CONFORMANCE_VENV chooses its place (default: .venv in the checkout).

set -euo pipefail

# Container images like to forbid bytecode. Tests start hundreds of interpreters, and without it each compiles everything
# and rewrites the asserts of every suite again: 8 s of CPU for an audit that needs 3.
unset PYTHONDONTWRITEBYTECODE

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${GPU_CONFORMANCE_VENV:-$checkout/.venv}
started=$SECONDS

say() { printf '== %s (%d s)\n' "$*" "$((SECONDS - started))"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 4
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer: neither \$PYTHON, python3 nor python3.11 to python3.14. Install one, or set PYTHON to it."
}

# A test that calls one of the commands is itself run by an environment that must not be made anew under it.
prepare_environment() {
    [ -z "${GPU_CONFORMANCE_ENVIRONMENT_IS_READY:-}" ] || return 0
    local lock=$checkout/ci/requirements.lock stamp=$venv/.lock-installed wanted python
    wanted=$(cat "$lock" "$checkout/pyproject.toml" | cksum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(find_python)
    say "virtual environment in $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" ||
        fail "$python cannot make a virtual environment; on Debian and Ubuntu install the package python3-venv"
    say "installing what ci/requirements.lock pins"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable "$checkout"
    printf '%s\n' "$wanted" >"$stamp"
}

# Each kubelet, containerd and control plane takes some; tests run several side by side (docs/real-nodes.md). The limit is
# the machine's: it is only ever raised, until the machine starts anew.
allow_inotify_instances() {
    local limit=/proc/sys/fs/inotify/max_user_instances wanted=1024
    [ "$(id -u)" = 0 ] && [ -w "$limit" ] && [ "$(cat "$limit")" -lt "$wanted" ] || return 0
    say "allowing $wanted inotify instances (fs.inotify.max_user_instances was $(cat "$limit"))"
    echo "$wanted" >"$limit" || say "the kernel refuses that: nodes that run side by side may find too few"
}
