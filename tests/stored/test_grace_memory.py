"""A resume grace holds nothing in memory once the answer is there: all that is wanted then lies in the journal."""

import gc
import json

import httpx

from tests.support.running import Running, wait_for
from tidegate.gateway.exchange import Exchange


def test_the_answer_that_goes_on_without_its_client_is_forgotten_when_it_has_ended(keeping: Running) -> None:
    def exchanges() -> int:
        gc.collect()
        return sum(isinstance(one, Exchange) for one in gc.get_objects())

    before = keeping.call(exchanges)
    question = {"model": "lab/lorem?chunks=20&gap=20", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with httpx.Client(base_url=keeping.origin, timeout=20, trust_env=False) as client:
        with client.stream(
            "POST", "/v1/chat/completions", json=question, headers={"tidegate-resume-grace": "1h"}
        ) as answer:
            next(answer.iter_lines())
            name = answer.headers["tidegate-stream"]
        rest = client.get(f"/v1/streams/{name}").text
    assert rest.endswith("data: [DONE]\n\n")
    text = [json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: {")]
    assert text[-1]["choices"][0]["finish_reason"] == "stop"
    assert wait_for(lambda: keeping.call(exchanges) <= before)
    assert keeping.call(exchanges) <= before
