#!/bin/sh
# Drive the real coding agents, Codex CLI and Claude Code, through a live gateway to every kind of provider.
#   scripts/test-clients.sh [--json] [--keep] [NAME...]   see scripts/clients/__main__.py
# The agents live in .cache/clients (about 1 GB), and stay there for the next run. They need Node.js 20 or newer with npm.
# Which versions, scripts/clients/package.json says. A newer one: write it there, then
#   (cd scripts/clients && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved)
set -eu
cd "$(dirname "$0")/.."

folder=.cache/clients
pinned=scripts/clients/package-lock.json

say() { echo "$@" >&2; }

stamp=$folder/.complete
if ! cmp -s "$pinned" "$stamp"; then
    command -v npm >/dev/null || { say "No npm found to install the agents with."; exit 1; }
    say "Installing the agents of scripts/clients/package.json into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp scripts/clients/package.json "$pinned" "$folder"
    # No script of a package is run: each agent is one program that lies in a package of its own for every platform.
    (cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$pinned" "$stamp"
fi

exec "${VENV:-.venv}/bin/python" -m scripts.clients --agents "$folder" "$@"
