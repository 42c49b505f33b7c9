"""What a record says about one call: its clocks and its address."""

import msgspec
import pytest

from tidegate.providers.discovery import local_ports, recognise
from tidegate.providers.record import Clocks, Provider
from tidegate.providers.registry import REGISTRY

LAB = Provider(kind="lab", title="Lab", base_url="https://lab.example.com/v1", reasons_silently=("o1*", "*-pro"))


def test_the_clocks_are_thirty_seconds_unless_said_otherwise() -> None:
    clocks = LAB.clocks_for("small", stream=True)
    assert (clocks.connect, clocks.first_event, clocks.idle, clocks.send_stall) == (5.0, 30.0, 30.0, 30.0)


def test_a_stream_has_no_total_and_a_whole_answer_has_ten_minutes() -> None:
    assert LAB.clocks_for("small", stream=True).total is None
    assert LAB.clocks_for("small", stream=False).total == 600.0


@pytest.mark.parametrize("model", ["o1-mini", "o1", "big-pro"])
def test_a_silent_reasoner_gets_ten_minutes_for_first_event_and_idle(model: str) -> None:
    clocks = LAB.clocks_for(model, stream=True)
    assert (clocks.first_event, clocks.idle) == (600.0, 600.0)
    assert clocks.connect == 5.0


@pytest.mark.parametrize("model", ["O1", "gpt-o1", "pro"])
def test_a_model_that_only_resembles_a_pattern_keeps_the_usual_clocks(model: str) -> None:
    assert LAB.clocks_for(model, stream=True).idle == 30.0


def test_longer_clocks_are_not_shortened_for_a_silent_reasoner() -> None:
    patient = msgspec.structs.replace(LAB, clocks=Clocks(first_event=3600.0))
    assert patient.clocks_for("o1", stream=True).first_event == 3600.0


def test_an_endpoint_stands_below_the_base_address() -> None:
    assert LAB.url("responses") == "https://lab.example.com/v1/responses"
    assert LAB.url("chat") == "https://lab.example.com/v1/chat/completions"
    assert LAB.url("completions") == "https://lab.example.com/v1/completions"


def test_a_record_does_not_change() -> None:
    with pytest.raises(AttributeError):
        LAB.kind = "other"  # type: ignore[misc]


def test_openai_answers_400_to_chat_members_on_responses() -> None:
    refused = REGISTRY["openai"].refuses["responses"]
    assert {"n", "stop", "frequency_penalty", "presence_penalty", "seed", "logit_bias"} <= refused


@pytest.mark.parametrize(
    ("port", "owners", "kind"),
    [
        (11434, ["library"], "ollama"),
        (8000, ["vllm"], "vllm"),
        (8000, ["HuggingFaceTB", "Qwen"], "transformers"),
        (8000, [], "transformers"),
        (9999, ["vllm"], "vllm"),
        (8000, ["sglang"], "sglang"),
        (8080, ["llamacpp"], "llamacpp"),
        (8080, ["somebody"], "openai-compatible"),
        (1234, ["organization_owner"], "lmstudio"),
        (30000, [""], "openai-compatible"),
    ],
)
def test_an_engine_is_recognised_by_its_model_list_then_by_its_port(port: int, owners: list[str], kind: str) -> None:
    assert recognise(port, owners).kind == kind


def test_each_usual_port_is_tried_once() -> None:
    ports = local_ports()
    assert len(ports) == len(set(ports))
    assert {11434, 8000, 8080, 30000, 1234} <= set(ports)
