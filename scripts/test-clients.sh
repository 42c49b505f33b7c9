#!/bin/sh
# Drive the real coding agents, Codex CLI and Claude Code, through a live gateway to every kind of provider.
#   scripts/test-clients.sh [--json] [--keep] [NAME...]   see scripts/clients/__main__.py
# The agents live in .cache/clients (about 1 GB), and stay there for the next run. They need Node.js 20 or newer with npm.
#   CODEX=... CLAUDE_CODE=...   versions to install, as npm names them
set -eu
cd "$(dirname "$0")/.."

codex=${CODEX:-0.169.0}
claude=${CLAUDE_CODE:-2.1.197}
folder=.cache/clients

say() { echo "$@" >&2; }

stamp=$folder/.complete
wanted="$codex $claude"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    command -v npm >/dev/null || { say "No npm found to install the agents with."; exit 1; }
    say "Installing @openai/codex $codex and @anthropic-ai/claude-code $claude into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    echo '{"private": true}' >"$folder/package.json"
    # No script of a package is run: each agent is one program that lies in a package of its own for every platform.
    (cd "$folder" && npm install --silent --no-audit --no-fund --ignore-scripts \
        "@openai/codex@$codex" "@anthropic-ai/claude-code@$claude")
    echo "$wanted" >"$stamp"
fi

exec "${VENV:-.venv}/bin/python" -m scripts.clients --agents "$folder" "$@"
