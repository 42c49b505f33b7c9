"""The official OpenAI SDK as the client, and its types as the judge of every event."""

import openai
import pytest

from tests.support.running import Running


@pytest.fixture
def client(gateway: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key="unused", max_retries=0)


@pytest.mark.row("S1", "S60", "S62")
def test_a_response_streams_from_created_to_completed(client: openai.OpenAI) -> None:
    with client.responses.stream(model="sim/echo", input="Hello there, you") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Hello there, you"
