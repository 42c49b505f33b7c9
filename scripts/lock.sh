#!/bin/sh
# Write the hash locks from pyproject.toml:
#   requirements/run.txt    what the gateway needs
#   requirements/build.txt  what building its wheel needs
#   requirements/dev.txt    both of them, and what tests and checks need
#   requirements/local-audio.txt  run.txt with the extra of that name, which not every platform has packages for
# Extra arguments go to uv, e.g. `make lock ARGS=--upgrade`. A pin is kept as long as it fits, unless told so.
set -eu
cd "$(dirname "$0")/.."

# No mirror or local folder of this machine may have a say in what is locked.
unset UV_DEFAULT_INDEX UV_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_CONFIG_FILE || true

uv=${VENV:-.venv}/bin/uv
[ -x "$uv" ] || uv=uv
compile() {
    echo "locking $1"
    out=requirements/$1.txt
    shift
    "$uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --output-file "$out" "$@"
}

compile run pyproject.toml "$@"
compile local-audio pyproject.toml --extra local-audio --constraint requirements/run.txt "$@"
compile build --group pyproject.toml:build --constraint requirements/run.txt "$@"
compile dev pyproject.toml --group pyproject.toml:dev \
    --constraint requirements/run.txt --constraint requirements/build.txt "$@"
