#!/bin/sh
# Run every check and report all that fail, not only the first.
set -u
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
failed=

step() {
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed
  $name"
}

step "lint" "$bin/ruff" check .
step "formatting" "$bin/ruff" format --check .
step "types" "$bin/mypy"
step "import direction, locks, documentation, deployment files" \
    "$bin/python" -m pytest tests/test_architecture.py tests/test_locks.py tests/test_docs.py tests/test_matrix.py tests/test_deploy.py \
    tests/docs/test_docs_complete.py tests/docs/test_docs_pages.py

[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
echo "all checks passed"
