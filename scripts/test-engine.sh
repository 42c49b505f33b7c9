#!/bin/sh
# Drive a real inference engine through the gateway: Hugging Face `transformers serve` on the CPU, with models made here.
#   scripts/test-engine.sh [--json] [--record] [--keep]   see scripts/engine/__main__.py
#   scripts/test-engine.sh --lock                         write requirements/engine.txt anew from engine.in
# The engine lives in its own environment, .cache/engine-venv (about 1.2 GB), and stays there for the next run.
#   TORCH_INDEX=...  index that PyTorch is taken from. On Linux the usual index gives the CUDA build, which works as well
#                    but brings several GB; PyTorch's installation guide names the index of the CPU build.
set -eu
cd "$(dirname "$0")/.."

torch=2.13.0
bin=${VENV:-.venv}/bin
venv=.cache/engine-venv
py=$venv/bin/python
lock=requirements/engine.txt

say() { echo "$@" >&2; }

if [ "${1:-}" = --lock ]; then
    unset UV_DEFAULT_INDEX UV_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_CONFIG_FILE || true
    no_torch=$(mktemp)
    trap 'rm -f "$no_torch"' EXIT
    echo "torch; python_version < '3'" >"$no_torch"
    say "locking $lock"
    "$bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-header --no-annotate --override "$no_torch" --output-file "$lock" requirements/engine.in
    exit
fi

# pip of whichever Python has one; Debian's may come without.
pip() {
    for outer in "$bin/python" python3; do
        if "$outer" -m pip --version >/dev/null 2>&1; then
            "$outer" -m pip --disable-pip-version-check --python "$py" "$@"
            return
        fi
    done
    say "No pip found to install the engine with."
    return 1
}

stamp=$venv/.complete
fingerprint() { { pwd; echo "$torch ${TORCH_INDEX:-}"; cat "$lock"; } | cksum; }
if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint)" ] || ! "$py" -c '' 2>/dev/null; then
    say "Making $venv; the engine and PyTorch are a download of some 300 MB (CPU build)"
    rm -rf "$venv"
    mkdir -p .cache
    "$bin/python" -m venv --without-pip "$venv"
    say "Installing the locked packages of $lock"
    pip install --quiet --require-hashes --no-deps --requirement "$lock"
    say "Installing torch $torch"
    # A later `pip install` would replace the build that is already there only if the version differed.
    if [ -n "${TORCH_INDEX:-}" ]; then
        pip install --quiet --index-url "$TORCH_INDEX" "torch==$torch"
    else
        pip install --quiet "torch==$torch"
    fi
    "$py" -c 'import torch, transformers' || { say "The engine cannot be imported: see above."; exit 1; }
    fingerprint >"$stamp"
fi

exec "$bin/python" -m scripts.engine --engine "$venv/bin" "$@"
