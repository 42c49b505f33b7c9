"""Several answers to one request, where the provider's dialect has them."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types

from tests.support.api import Api
from tests.support.running import Running

SAID = "潮汐 in, 潮汐 out"
HAVE_THEM = ["openai-chat", "lab", "google"]


@pytest.fixture(scope="module")
def chat(bridging: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=bridging.url, api_key="unused", max_retries=0, timeout=20) as made:
        yield made


@pytest.mark.parametrize("provider", HAVE_THEM)
def test_a_chat_client_gets_each_answer_under_its_index(chat: openai.OpenAI, provider: str) -> None:
    create: Any = chat.chat.completions.create
    messages = [{"role": "user", "content": SAID}]
    whole = create(model=f"{provider}/echo", messages=messages, n=3)
    assert [(one.index, one.message.content, one.finish_reason) for one in whole.choices] == [
        (index, SAID, "stop") for index in range(3)
    ]
    texts = ["", "", ""]
    reasons: list[tuple[int, str]] = []
    for chunk in create(model=f"{provider}/echo", messages=messages, n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons.append((choice.index, choice.finish_reason))
    assert texts == [SAID] * 3
    assert sorted(reasons) == [(0, "stop"), (1, "stop"), (2, "stop")]


@pytest.mark.parametrize("provider", HAVE_THEM)
def test_a_gemini_client_gets_candidates(bridging: Running, provider: str) -> None:
    with genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=bridging.origin)) as client:
        config = types.GenerateContentConfig(candidate_count=2)
        whole = client.models.generate_content(model=f"{provider}/echo", contents=SAID, config=config)
        texts = {0: "", 1: ""}
        for chunk in client.models.generate_content_stream(model=f"{provider}/echo", contents=SAID, config=config):
            for one in chunk.candidates or ():
                assert one.content is not None
                texts[one.index or 0] += "".join(part.text or "" for part in one.content.parts or ())
    assert whole.candidates is not None
    assert [one.content.parts[0].text for one in whole.candidates if one.content and one.content.parts] == [SAID] * 2
    assert texts == {0: SAID, 1: SAID}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [True, False])
def test_where_there_is_one_answer_only_the_request_is_refused(bridging: Running, provider: str, stream: bool) -> None:
    with Api(bridging) as api:
        assert api.refused("chat", f"{provider}/echo", n=2, stream=stream)["param"] == "n"
