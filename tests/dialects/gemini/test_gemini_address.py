"""Targets of Google's clients."""

import pytest

from tidegate.dialects.gemini import Address, read_address


@pytest.mark.parametrize(
    ("path", "query", "address"),
    [
        ("/v1beta/models/tide:generateContent", "", Address(model="tide", stream=False)),
        ("/v1/models/tide:streamGenerateContent", "alt=sse", Address(model="tide", stream=True, alt="sse")),
        ("/v1alpha/models/tide:streamGenerateContent", "key=k", Address(model="tide", stream=True)),
        ("/v1beta/models/tide:streamGenerateContent", "$alt=json&x", Address(model="tide", stream=True, alt="json")),
        ("/v1beta/models/sim/lorem:gap=1:generateContent", "", Address(model="sim/lorem:gap=1", stream=False)),
        ("/v1beta/models/sim%2Florem%3Fgap=1:generateContent", "", Address(model="sim/lorem?gap=1", stream=False)),
        ("/v1beta/models/tide:countTokens", "", None),
        ("/v1beta/models/:generateContent", "", None),
        ("/v1beta/models/tide", "", None),
        ("/v1/chat/completions", "", None),
        ("/v1beta/models/tide:generateContent/", "", None),
    ],
)
def test_targets(path: str, query: str, address: Address | None) -> None:
    assert read_address(path, query) == address
