"""What is read of the objects in a chat request (https://platform.openai.com/docs/api-reference/chat/create, protocol §5.4)."""

from typing import Final

from tidegate.dialects.shapes import OneOf, Says, Shape

__all__ = ["MEMBERS", "MESSAGES", "TOOLS"]

_CACHE: Final = Shape("type", ttl=Says("5m"))
_MARKS: Final = {"cache_control": _CACHE, "prompt_cache_breakpoint": Shape("mode")}
_TEXT: Final = Shape("text annotations logprobs", **_MARKS)
_PART: Final = OneOf(
    "type",
    {
        "text": _TEXT,
        "input_text": _TEXT,
        "output_text": _TEXT,
        "refusal": Shape("refusal"),
        "image_url": Shape(image_url=Shape("url detail"), **_MARKS),
        "input_audio": Shape(input_audio=Shape("data format")),
        "file": Shape(file=Shape("file_data file_id file_url filename"), **_MARKS),
    },
)
_SAID: Final = Shape("id name", content=_PART, cache_control=_CACHE)
_CALLED: Final = Shape("name arguments parsed_arguments")

MESSAGES: Final = OneOf(
    "role",
    {
        "system": _SAID,
        "developer": _SAID,
        "user": _SAID,
        "assistant": Shape(
            # What vendors say of reasoning may have any shape, and is read loosely.
            "id name refusal audio reasoning_content reasoning reasoning_details images annotations parsed",
            content=_PART,
            cache_control=_CACHE,
            tool_calls=Shape(
                "id type index",
                function=_CALLED,
                custom=Shape("name input"),
                extra_content=Shape(google=Shape("thought_signature")),
            ),
            function_call=_CALLED,
        ),
        "tool": Shape("id name tool_call_id", content=_PART, cache_control=_CACHE),
        "function": Shape("id name", content=_PART, cache_control=_CACHE),
    },
)

_NAMED: Final = Shape("name")
_FUNCTION: Final = Shape("name description parameters strict")

TOOLS: Final = OneOf(
    "type",
    {
        "function": Shape(function=_FUNCTION, cache_control=_CACHE),
        "custom": Shape(
            custom=Shape(
                "name description",
                format=OneOf("type", {"text": Shape(), "grammar": Shape(grammar=Shape("syntax definition"))}),
            ),
            cache_control=_CACHE,
        ),
    },
)

MEMBERS: Final[dict[str, Shape | OneOf]] = {
    "functions": _FUNCTION,
    "function_call": _NAMED,
    "reasoning": Shape("effort max_tokens enabled"),
    "response_format": OneOf(
        "type",
        {
            "text": Shape(),
            "json_object": Shape(),
            "json_schema": Shape(json_schema=Shape("name description schema strict")),
        },
    ),
    "stream_options": Shape("include_usage", include_obfuscation=Says(False)),
    "thinking": Shape("type budget_tokens"),
    "tool_choice": OneOf(
        "type",
        {
            "function": Shape(function=_NAMED),
            "custom": Shape(custom=_NAMED),
            "allowed_tools": Shape(
                allowed_tools=Shape("mode", tools=Shape("type name", function=_NAMED, custom=_NAMED))
            ),
        },
    ),
}
"""Other members of the request that are objects, or lists of them."""
