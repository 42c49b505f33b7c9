"""What is read of the objects in a `generateContent` request (https://ai.google.dev/api/generate-content)."""

from collections.abc import Mapping
from typing import Final

from tidegate.dialects.shapes import OneOf, Says, Shape

__all__ = ["CONTENTS", "DECLARATIONS", "MEMBERS", "RESPONSE_FORMAT"]

_BLOB: Final = Shape("mimeType data displayName")
_FILE: Final = Shape("fileUri mimeType displayName")
_PART: Final = Shape(
    "thought thoughtSignature videoMetadata",
    "text inlineData fileData functionCall functionResponse",
    inlineData=_BLOB,
    fileData=_FILE,
    functionCall=Shape("name args id"),
    functionResponse=Shape("name response id", parts=Shape("text", inlineData=_BLOB, fileData=_FILE)),
)
"""A part with none of the main members is of a kind that is carried as it is."""

CONTENTS: Final = Shape("role", parts=_PART)

DECLARATIONS: Final = Shape(
    "name description parameters parametersJsonSchema", behavior=Says("BLOCKING", "UNSPECIFIED")
)

RESPONSE_FORMAT: Final = Shape(text=Shape("mimeType schema"))

MEMBERS: Final[Mapping[str, Shape | OneOf]] = {"systemInstruction": Shape("role", parts=Shape("text"))}
"""Other members of the request that are objects."""
