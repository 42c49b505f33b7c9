"""Text from outside in the tables of the command line."""

import re
from typing import Final

__all__ = ["cell"]

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def cell(text: str) -> str:
    """`text` for a cell of rich's tables: as it is, without commands to the terminal. Clients choose some of it."""
    from rich.markup import escape  # slow to load

    return escape(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
