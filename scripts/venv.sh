#!/bin/sh
# Bring the virtual environment up to date: scripts/venv.sh run|dev
#   run  the hash-locked runtime and this package (editable)
#   dev  the same, and all that tests and checks need
# Both with the local audio engine, where its packages exist for this platform and Python; else without it.
# A stamp in the environment records what was installed, so an up-to-date one costs a few milliseconds.
# PYTHON=... chooses the interpreter of a new environment, VENV=... its folder.
set -eu
cd "$(dirname "$0")/.."

kind=$1
venv=${VENV:-.venv}
py=$venv/bin/python
case $kind in
run) locks="requirements/run.txt requirements/build.txt" ;;
dev) locks="requirements/dev.txt" ;;
*) echo "usage: scripts/venv.sh run|dev" >&2; exit 2 ;;
esac

audio=requirements/local-audio.txt

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" && { echo "$PYTHON"; return; }
        echo "PYTHON=$PYTHON is not a working Python 3.11 or newer." >&2
        return 1
    fi
    for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do
        is_new_enough "$candidate" && { echo "$candidate"; return; }
    done
    echo "Tidegate needs Python 3.11 or newer, and none was found on PATH (python3.11 to python3.14, python3)." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3" >&2
    return 1
}

# Make the environment. Debian ships Python without ensurepip; there the system's pip installs into it from outside.
make_venv() {
    python=$(find_python) || exit 1
    echo "Making $venv with $("$python" -V)"
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null 2>&1 && return
    "$python" -m venv --clear --without-pip "$venv"
    "$python" -m pip --python "$py" --version >/dev/null 2>&1 || {
        rm -rf "$venv"
        echo "This Python has neither ensurepip nor pip; on Debian or Ubuntu: apt install python3-venv" >&2
        exit 1
    }
}

pip() {
    if "$py" -c 'import pip' >/dev/null 2>&1; then
        "$py" -m pip --disable-pip-version-check "$@"
    else
        outer=$(find_python)
        "$outer" -m pip --disable-pip-version-check --python "$py" "$@"
    fi
}

# Everything an environment depends on: its locks, this package's metadata, and where the checkout stands.
fingerprint() { { pwd; cat $locks $audio pyproject.toml; } | cksum; }

stamp=$venv/.tidegate-$kind
if is_new_enough "$py"; then
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ] && [ -x "$venv/bin/tidegate" ]; then exit 0; fi
else
    make_venv
fi

rm -f "$venv"/.tidegate-*
arguments=
for lock in $locks; do arguments="$arguments --requirement $lock"; done
echo "Installing the locked packages of $locks (a minute at most on a usual line)"
pip install --quiet --progress-bar on --require-hashes --no-deps $arguments || {
    echo "The packages could not be installed: see pip's message above; is a package index reachable?" >&2
    exit 1
}
pip install --quiet --progress-bar on --require-hashes --no-deps --only-binary :all: --requirement $audio 2>"$venv/local-audio.log" ||
    echo "Without the local audio engine: this platform lacks one of its packages (see $venv/local-audio.log)." >&2
echo "Installing tidegate itself"
pip install --quiet --no-deps --no-build-isolation --no-index --editable .
fingerprint >"$stamp"
if [ "$kind" = dev ]; then
    locks="requirements/run.txt requirements/build.txt"
    fingerprint >"$venv/.tidegate-run"
fi
