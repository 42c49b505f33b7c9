"""What goes wrong at a provider, as the chaos run asks for it: one line for each fault, with its row of the fault matrix."""

from typing import Final, Literal, NamedTuple

__all__ = ["ALIASES", "FAULTS", "NO_FAULT", "ROWS", "Fault", "Truth"]

Truth = Literal["completed", "incomplete", "failed", "broken"]
"""What became of an answer at the provider: whole; ended by a limit or filter, and said so; failed, and said so; neither."""

TEXT: Final = ("responses", "chat", "completions", "messages", "gemini")
AUDIO: Final = ("speech", "transcription")
ANY: Final = (*TEXT, *AUDIO, "embeddings")


class Fault(NamedTuple):
    """One way in which a provider goes wrong."""

    name: str
    row: str
    """Of the fault matrix."""
    options: str
    """Of the simulator's model name; of the raw provider, its script."""
    apis: tuple[str, ...] = TEXT
    """Clients that can meet it."""
    stream: bool | None = None
    """Whether it strikes streams, whole answers, or both."""
    truth: Truth | None = None
    """What it comes to, where the bytes alone do not say it: they look whole, and are not to be believed."""
    provider: str = ""
    """Where it stands; else any."""
    client_fault: bool = False
    """The provider says that the request is at fault, which the client is told as a 4xx."""


NO_FAULT: Final = Fault("none", "", "", ANY)


def _status(number: int, row: str = "FAULT-STATUS", more: str = "") -> Fault:
    # 401 and 403 are about our credential, not about the request.
    return Fault(
        f"status {number}{' ' + more if more else ''}",
        row,
        f"status={number}{'&' + more if more else ''}",
        (*TEXT, "speech", "embeddings"),
        client_fault=number in (400, 404, 413, 422),
    )


FAULTS: Final = (
    Fault("refused", "FAULT-CONNECT", "", provider="closed", apis=("responses", "chat")),
    Fault("no such host", "FAULT-CONNECT", "", provider="nowhere", apis=("responses", "chat")),
    Fault("bad certificate", "FAULT-CONNECT", "", provider="badcert", apis=("responses", "chat")),
    Fault("no handshake", "FAULT-CONNECT", "", provider="mute", apis=("responses", "chat")),
    _status(429, "FAULT-RATE-LIMITED", "retry_after=0"),
    _status(429, "FAULT-RATE-LIMITED", "retry_after=1"),
    _status(429, "FAULT-RATE-LIMITED", "retry_after=soon"),
    _status(429, "FAULT-RATE-LIMITED", "retry_after=99999999999"),
    _status(429, "FAULT-RATE-LIMITED", "retry_after=Wed,+21+Oct+2015+07:28:00+GMT"),
    _status(429, "FAULT-RATE-LIMITED", "retry_after_ms=20"),
    _status(429, "FAULT-RATE-LIMITED", "code=insufficient_quota"),
    *map(_status, (400, 401, 403, 404, 408, 409, 413, 422, 500, 502, 503, 504, 529)),
    _status(500, "FAULT-STATUS", "times=1"),
    _status(503, "FAULT-STATUS", "body=html&times=1"),
    _status(400, "FAULT-TYPED-400", "code=context_length_exceeded"),
    _status(400, "FAULT-TYPED-400", "code=content_filter"),
    Fault("slow first event", "FAULT-SLOW-FIRST", "delay=3000"),
    Fault("silent head", "FAULT-SLOW-FIRST", "fault=stall_head", (*TEXT, "speech")),
    Fault("pings only", "FAULT-SLOW-FIRST", "fault=ping&after=0", stream=True),
    Fault("slow once", "FAULT-SLOW-FIRST", "fault=stall_head&times=1"),
    Fault("stall", "FAULT-STALL", "fault=stall&after=4", (*TEXT, *AUDIO)),
    Fault("stall, pinging", "FAULT-STALL", "fault=ping&after=4", stream=True),
    Fault("reset", "FAULT-CUT", "fault=reset", (*TEXT, *AUDIO)),
    Fault("reset once", "FAULT-CUT", "fault=reset&after=0&times=1", (*TEXT, *AUDIO)),
    Fault("end without ending", "FAULT-CUT", "fault=eof", (*TEXT, *AUDIO)),
    Fault("cut", "FAULT-CUT", "fault=cut&after=5", (*TEXT, *AUDIO)),
    Fault("close", "FAULT-CUT", "fault=close&after=5", (*TEXT, *AUDIO)),
    Fault("close before the head", "FAULT-CUT", "fault=close_head", (*TEXT, *AUDIO)),
    Fault("no finish", "FAULT-CUT", "finish=none", stream=True),
    Fault("bad chunk size", "FAULT-CUT", "fault=bad_chunk_size", TEXT),
    Fault("upload reset", "FAULT-CUT", "fault=upload_reset", ("transcription",)),
    Fault("upload stalls", "FAULT-STALL", "fault=upload_stall", ("transcription",)),
    Fault("upload refused", "FAULT-STATUS", "fault=upload_refused", ("transcription",), client_fault=True),
    Fault("error", "FAULT-IN-BAND", "fault=error&after=5", (*TEXT, *AUDIO)),
    Fault("error at once", "FAULT-IN-BAND", "fault=error&after=0", stream=True),
    Fault("overloaded at once", "FAULT-IN-BAND", "fault=error&after=0&type=overloaded_error", stream=True),
    Fault("failed", "FAULT-IN-BAND", "fault=failed&after=5", (*TEXT, *AUDIO)),
    Fault("failed once", "FAULT-IN-BAND", "fault=failed&after=0&times=1", stream=True),
    Fault("JSON error with 200", "FAULT-ODD-200", "fault=json200"),
    Fault("page with 200", "FAULT-ODD-200", "fault=html200"),
    Fault("nothing with 200", "FAULT-ODD-200", "fault=empty200"),
    Fault("odd type", "FAULT-ODD-200", "fault=wrong_type"),
    Fault("no type", "FAULT-ODD-200", "fault=no_type"),
    Fault("redirect", "FAULT-ODD-200", "fault=redirect"),
    Fault("no HTTP", "FAULT-ODD-200", "fault=not_http", truth="broken"),
    Fault("two lengths", "FAULT-ODD-200", "fault=both_lengths", truth="broken"),
    Fault("half a body", "FAULT-BROKEN-JSON", "fault=truncated_json", stream=False),
    Fault("no JSON", "FAULT-BROKEN-JSON", "fault=garbage"),
    Fault("CR LF", "FAULT-MALFORMED-SSE", "crlf=1", stream=True),
    Fault("comments", "FAULT-MALFORMED-SSE", "comments=5", stream=True),
    Fault("no [DONE]", "FAULT-MALFORMED-SSE", "done=0", ("chat", "completions"), stream=True),
    Fault("[DONE] everywhere", "FAULT-MALFORMED-SSE", "done=1", stream=True),
    Fault("no UTF-8", "FAULT-UTF8", "fault=badutf8"),
    Fault("split everywhere", "FAULT-UTF8", "split=1"),
    Fault("split at seven", "FAULT-UTF8", "split=7"),
    Fault("endless", "FAULT-ENDLESS", "fault=endless&gap=30", stream=True),
    Fault("endless line", "FAULT-ENDLESS", "fault=longline&total=9000000", stream=True),
    Fault("many headers", "FAULT-ENDLESS", "fault=many_headers", truth="broken"),
    Fault("compressed", "FAULT-BOMB", "fault=gzip"),
    Fault("bomb", "FAULT-BOMB", "fault=gzip_bomb&total=8000000", truth="broken"),
    Fault("usage absent", "FAULT-USAGE", "usage=absent"),
    Fault("usage zero", "FAULT-USAGE", "usage=zero"),
    Fault("usage inline", "FAULT-USAGE", "usage=inline"),
    Fault("usage unasked", "FAULT-USAGE", "usage=always"),
    Fault("role twice", "FAULT-DISORDER", "fault=dup_role", ("responses", "chat"), stream=True),
    Fault("finish twice", "FAULT-DISORDER", "fault=dup_finish", stream=True),
    Fault("more behind the end", "FAULT-DISORDER", "fault=extra_after_end", stream=True),
    Fault("number left out", "FAULT-DISORDER", "fault=seq_jump", ("responses",), stream=True),
    Fault("number twice", "FAULT-DISORDER", "fault=seq_stuck", ("responses",), stream=True),
    Fault("no numbers", "FAULT-DISORDER", "seq=0&events=0", ("responses",), stream=True),
    Fault("headless", "FAULT-DISORDER", "fault=headless", ("responses", "chat"), stream=True),
    Fault("unknown event", "FAULT-DISORDER", "fault=unknown", stream=True),
    Fault("numbered keepalive", "FAULT-DISORDER", "fault=keepalive", ("responses",), stream=True),
    Fault("length", "FAULT-DISORDER", "finish=length"),
    Fault("filtered", "FAULT-DISORDER", "finish=content_filter", ("responses", "chat", "messages")),
    Fault("stale connection", "FAULT-CONNECT", "fault=stale"),
    Fault("closed behind the answer", "FAULT-CONNECT", "fault=close_keepalive"),
    Fault("answer unasked", "FAULT-ODD-200", "fault=unsolicited"),
    Fault("continue first", "FAULT-ODD-200", "fault=continue100"),
    Fault("head by pieces", "FAULT-ODD-200", "fault=head_slow"),
    # What no decent server says, said by the raw provider.
    *(
        Fault(f"raw {script}", row, script, ("responses", "chat", "messages", "gemini"), True, provider="raw")
        for script, row in {
            "cr": "FAULT-MALFORMED-SSE",
            "bom": "FAULT-MALFORMED-SSE",
            "lines": "FAULT-MALFORMED-SSE",
            "tail": "FAULT-MALFORMED-SSE",
            "fields": "FAULT-MALFORMED-SSE",
            "done-only": "FAULT-CUT",
            "nan": "FAULT-BROKEN-JSON",
            "deep": "FAULT-BROKEN-JSON",
            "bytes": "FAULT-UTF8",
            "trickle": "FAULT-SLOW-FIRST",
            "halfclose": "FAULT-CUT",
            "usage-behind": "FAULT-USAGE",
            "calls": "FAULT-TOOL-CALLS",
            "calls-no-ids": "FAULT-TOOL-CALLS",
            "calls-one-index": "FAULT-TOOL-CALLS",
            "calls-interleaved": "FAULT-TOOL-CALLS",
            "calls-no-arguments": "FAULT-TOOL-CALLS",
            "calls-cut": "FAULT-TOOL-CALLS",
        }.items()
    ),
)

ROWS: Final = tuple(dict.fromkeys(fault.row for fault in FAULTS))

ALIASES: Final = {
    "spare-refused": ("closed/m", ""),
    "spare-host": ("nowhere/m", ""),
    "spare-certificate": ("badcert/echo", ""),
    "spare-500": ("prime/echo?status=500", ""),
    "spare-429": ("lab/echo?status=429&retry_after=1", ""),
    "spare-401": ("claude/echo?status=401", ""),
    "spare-reset": ("google/echo?fault=reset&after=0", ""),
    "spare-silent": ("prime/echo?fault=stall_head", ""),
    "spare-json": ("lab/echo?fault=json200", ""),
    "spare-error": ("claude/echo?fault=error&after=0", ""),
    "spare-long": ("prime/echo?status=400&code=context_length_exceeded", "context_length"),
    "spare-tide": ("tide/echo", ""),
    "spread": ("", ""),
}
"""Names whose first target fails, and another answers; `spread` has good ones."""
