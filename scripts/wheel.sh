#!/bin/sh
# Build the wheel with the locked build backend of the environment; nothing else is downloaded.
set -eu
cd "$(dirname "$0")/.."
"${VENV:-.venv}/bin/python" -m hatchling build --target wheel --directory dist
