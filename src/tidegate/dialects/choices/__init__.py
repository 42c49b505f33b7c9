"""What chat and text completions share: answers made of `choices`, streamed as bare `data:` frames."""

from tidegate.dialects.choices.answer import complete_choices
from tidegate.dialects.choices.chunk import CHOICE_LIMIT, Kind
from tidegate.dialects.choices.reasons import is_finish, known_reason
from tidegate.dialects.choices.stream import ChoicesStream

__all__ = ["CHOICE_LIMIT", "ChoicesStream", "Kind", "complete_choices", "is_finish", "known_reason"]
