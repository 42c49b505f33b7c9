"""What can be asked for beside the items themselves (`include`, protocol §1.2)."""

from collections.abc import Iterable
from typing import Final

from tidegate.dialects.validation import invalid

__all__ = ["INCLUDES", "check_includes"]

INCLUDES: Final = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)


def check_includes(names: Iterable[str]) -> None:
    """Raises InvalidRequest for a name that the API does not know. What is kept is shown whole, as it was given when it was
    made, so that the names it knows change nothing."""
    for name in names:
        if name not in INCLUDES:
            raise invalid("include", f"'{name[:64]}' is not one of {', '.join(INCLUDES)}.")
