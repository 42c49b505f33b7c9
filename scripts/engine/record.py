"""Short streams of the engine, kept as test vectors: tests/vectors/transformers/*.sse."""

import re
from pathlib import Path
from typing import Any, Final

from scripts.engine.lines import CALL, CALLS, CHINESE, HELLO, THINK
from scripts.engine.quirks import NAME, TOOL
from scripts.engine.wire import Wire

FOLDER: Final = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "transformers"

_CHAT_TOOL: Final = {"type": "function", "function": {name: TOOL[name] for name in ("name", "parameters")}}
_UUID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


STREAMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "responses-text": ("responses", {"input": CHINESE}),
    "responses-cut": ("responses", {"input": HELLO, "max_output_tokens": 3}),
    "responses-call": ("responses", {"input": CALL, "tools": [TOOL]}),
    "responses-text-and-calls": ("responses", {"input": CALLS, "tools": [TOOL]}),
    "responses-reasoning": ("responses", {"input": THINK}),
    "chat-text": ("chat", _chat(CHINESE)),
    "chat-calls": ("chat", _chat(CALLS, tools=[_CHAT_TOOL])),
    "chat-error": ("chat", _chat(HELLO, frequency_penalty=-1)),
    "completions-cut": ("completions", {"prompt": HELLO, "max_tokens": 3}),
}


def record(raw: Wire, version: str) -> list[Path]:
    """Write them with ids and times that do not change from run to run."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (endpoint, body) in STREAMS.items():
        content = raw.post(endpoint, model=NAME, stream=True, **body).content
        content = _UUID.sub(b"00000000-0000-4000-8000-000000000001", content)
        content = re.sub(rb'"created_at":[0-9.]+', b'"created_at":1790000000.25', content)
        content = re.sub(rb'"created":[0-9]+', b'"created":1790000000', content)
        path = FOLDER / f"{name}.sse"
        path.write_bytes(content)
        written.append(path)
    (FOLDER / "README.md").write_text(
        f"Streams of `transformers serve` {version}, as it sends them, with constant ids and times.\n"
        "Written by `make test-engine ARGS=--record`; read by `tests/dialects/test_transformers_vectors.py`.\n",
        "utf-8",
    )
    return written
