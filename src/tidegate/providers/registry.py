"""Every provider Tidegate knows, in the order in which an installation without a configuration file prefers them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tidegate.providers.anthropic import ANTHROPIC
from tidegate.providers.azure_openai import AZURE_OPENAI
from tidegate.providers.dashscope import DASHSCOPE
from tidegate.providers.deepseek import DEEPSEEK
from tidegate.providers.fireworks import FIREWORKS
from tidegate.providers.gemini import GEMINI
from tidegate.providers.groq import GROQ
from tidegate.providers.llamacpp import LLAMACPP
from tidegate.providers.lmstudio import LMSTUDIO
from tidegate.providers.local_audio import LOCAL_AUDIO
from tidegate.providers.mistral import MISTRAL
from tidegate.providers.moonshot import MOONSHOT
from tidegate.providers.ollama import OLLAMA
from tidegate.providers.openai import OPENAI
from tidegate.providers.openai_compatible import OPENAI_COMPATIBLE
from tidegate.providers.openrouter import OPENROUTER
from tidegate.providers.record import Provider
from tidegate.providers.sglang import SGLANG
from tidegate.providers.siliconflow import SILICONFLOW
from tidegate.providers.sim import SIM
from tidegate.providers.together import TOGETHER
from tidegate.providers.transformers import TRANSFORMERS
from tidegate.providers.vllm import VLLM
from tidegate.providers.xai import XAI
from tidegate.providers.zhipu import ZHIPU

_RECORDS: Final = (
    OPENAI,
    AZURE_OPENAI,
    ANTHROPIC,
    OPENROUTER,
    GEMINI,
    DEEPSEEK,
    GROQ,
    MISTRAL,
    TOGETHER,
    FIREWORKS,
    XAI,
    MOONSHOT,
    DASHSCOPE,
    ZHIPU,
    SILICONFLOW,
    OLLAMA,
    VLLM,
    LLAMACPP,
    SGLANG,
    LMSTUDIO,
    TRANSFORMERS,
    OPENAI_COMPATIBLE,
    LOCAL_AUDIO,
    SIM,
)

REGISTRY: Final[Mapping[str, Provider]] = MappingProxyType({record.kind: record for record in _RECORDS})


def get(kind: str) -> Provider:
    """The record of a kind. Raises `KeyError` for a kind that is not registered."""
    return REGISTRY[kind]
