"""OpenAI's models on Azure, by the v1 API: https://{resource}.openai.azure.com/openai/v1."""

from typing import Final

from tidegate.dialects.dialect import Quirks
from tidegate.providers.record import NOT_IN_RESPONSES, OPENAI_OPERATIONS, Provider

# Every installation has an address of its own. A model's name is that of a deployment, which its owner chose: patterns of
# model names say nothing here.
AZURE_OPENAI: Final = Provider(
    kind="azure-openai",
    title="Azure OpenAI",
    env=("AZURE_OPENAI_API_KEY",),
    base_url_env=("AZURE_OPENAI_BASE_URL",),
    auth="api-key",
    speaks=("responses", "chat", "completions", "embeddings", "speech", "transcription", "translation"),
    operations=OPENAI_OPERATIONS,
    refuses={"responses": NOT_IN_RESPONSES},
    encrypted_reasoning=True,
    stores=True,
    quirks=Quirks(openai_chat=True, max_tokens_name="max_completion_tokens", refuses_reasoning=True),
    documentation="https://learn.microsoft.com/azure/ai-foundry/openai/latest",
)
