"""A body that is taken for plain is the request that it is to whoever reads all of it."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.dialects.chat import ChatDialect
from tidegate.dialects.dialect import Destination
from tidegate.dialects.models import take_models
from tidegate.dialects.responses import ResponsesDialect
from tidegate.wire.errors import TidegateError

TEXT = st.sampled_from(["", "Hi", 'an "image_url"', "用户", "\U0001f600", "\x00", "x" * 70, "web_search"])
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, -1, 0.5, 10**30, 1e308]) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "id", "url", "name"]), inner),
    max_leaves=4,
)


def some(always: dict[str, Any], seldom: dict[str, Any]) -> Any:
    """Objects with these members; what is listed apart is there now and then, and now and then of another kind."""
    return st.fixed_dictionaries(always, optional={name: st.one_of(*[one] * 7, JUNK) for name, one in seldom.items()})


PART = some(
    {"type": st.sampled_from(["text", "text", "input_text", "output_text", "image_url"])},
    {"text": TEXT, "image_url": st.none(), "annotations": st.just([]), "refusal": TEXT},
)
CONTENT = TEXT | st.lists(PART, max_size=2)
CALL = some({"function": some({"name": TEXT}, {"arguments": TEXT})}, {"id": TEXT, "type": st.just("function")})
MESSAGE = some(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": CONTENT},
    {"name": TEXT, "tool_calls": st.lists(CALL, max_size=2), "tool_call_id": TEXT, "refusal": TEXT, "audio": st.none()},
)
SHARED: dict[str, Any] = {
    "model": TEXT,
    "stream": st.booleans(),
    "temperature": st.just(1),
    "n": st.just(2),
    "user": TEXT,
    "stop": st.lists(TEXT, max_size=2),
    "metadata": st.dictionaries(TEXT, TEXT, max_size=2),
    "stream_options": some({}, {"include_usage": st.booleans(), "x": JUNK}),
    "tool_choice": TEXT | some({"type": TEXT}, {"name": TEXT}),
}
FUNCTION = some({"name": TEXT}, {"description": TEXT, "parameters": JUNK, "strict": st.booleans()})
CHAT = some(
    {"messages": st.lists(MESSAGE, min_size=1, max_size=2)},
    {
        **SHARED,
        "max_tokens": st.just(5),
        "tools": st.lists(some({"type": st.just("function")}, {"function": FUNCTION}), max_size=2),
        "response_format": some({"type": TEXT}, {"json_schema": JUNK}),
    },
)
ITEM = some(
    {},
    {
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "item_reference"]),
        "role": st.sampled_from(["user", "assistant"]),
        "content": CONTENT,
        "id": TEXT,
        "call_id": TEXT,
        "name": TEXT,
        "output": TEXT,
        "encrypted_content": TEXT,
        "summary": st.just([]),
    },
)
RESPONSES = some(
    {"input": TEXT | st.lists(ITEM, min_size=1, max_size=2)},
    {
        **SHARED,
        "instructions": TEXT,
        "max_output_tokens": st.just(5),
        "previous_response_id": TEXT,
        "conversation": TEXT | some({"id": TEXT}, {}),
        "include": st.lists(TEXT, max_size=2),
        "tools": st.lists(some({"type": st.sampled_from(["function", "custom"])}, {"name": TEXT, "format": JUNK}), max_size=2),
        "text": some({}, {"format": some({"type": st.just("json_schema")}, {"name": TEXT, "schema": JUNK})}),
        "reasoning": some({}, {"effort": st.just("low"), "mode": TEXT}),
    },
)  # fmt: skip


@st.composite
def _texts(draw: st.DrawFn, objects: Any) -> bytes:
    """JSON text of such objects, perhaps with a member twice, a name in escapes, or a byte too many."""
    found = draw(objects)
    text = json.dumps(found, ensure_ascii=draw(st.booleans()))
    name = draw(st.sampled_from(sorted(found)))
    match draw(st.sampled_from(["as it is", "as it is", "twice", "escaped", "damaged"])):
        case "twice":
            other = f'"{name}": {json.dumps(draw(JUNK))}'
            text = f"{{{other}, {text[1:]}" if draw(st.booleans()) else f"{text[:-1]}, {other}}}"
        case "escaped":
            text = text.replace(f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"', 1)
        case "damaged":
            place = draw(st.integers(0, len(text.encode())))
            wrong = draw(st.sampled_from([b"\xef\xbb\xbf", b"\xff", b"NaN", b"\\ud800", b"1e999", b" ", b","]))
            return text.encode()[:place] + wrong + text.encode()[place:]
    return text.encode()


def _asked(read: Any, endpoint: Any) -> Any:
    """What becomes of a request: what providers get and budgets hear, or why it is refused."""
    try:
        request = read()
        if request is None:
            return None
        told = (request.extent, request.end_user, request.affinity, request.wants_stop, request.wants_stream)
    except TidegateError as error:
        return error.message, error.param, error.code
    sent = []
    for destination in (
        Destination(provider="p", model="m", endpoint=endpoint),
        Destination(provider="p", model="m", endpoint=endpoint, gateway_state=False, refuses=frozenset({"user", "n"})),
    ):
        try:
            sent.append((request.forward(destination), request.dropped))
        except TidegateError as error:
            sent.append((error.message, error.param))
    try:
        return told, sent, repr(request.canonical())
    except TidegateError as error:
        return told, sent, error.message


def _compare(dialect: Any, body: bytes, endpoint: str) -> None:
    plain = _asked(lambda: dialect.parse_plain(body), endpoint)
    if plain is not None:
        assert plain == _asked(lambda: dialect.parse(take_models(body)[0]), endpoint)


@given(_texts(CHAT))
@settings(max_examples=200, deadline=None)
def test_of_chat(body: bytes) -> None:
    _compare(ChatDialect(), body, "chat")


@given(_texts(RESPONSES))
@settings(max_examples=200, deadline=None)
def test_of_responses(body: bytes) -> None:
    _compare(ResponsesDialect(), body, "responses")
