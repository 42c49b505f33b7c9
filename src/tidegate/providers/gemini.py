"""Google Gemini."""

from typing import Final

from tidegate.dialects.dialect import Quirks, Speech
from tidegate.providers.record import PATHS, Provider

# Every model since 2.5 thinks before it answers, and sends nothing meanwhile unless thoughts are asked for.
GEMINI: Final = Provider(
    kind="gemini",
    title="Google Gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta",
    env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    auth="x-goog-api-key",
    speaks=("gemini", "embeddings", "speech", "transcription", "translation"),
    paths={
        **PATHS,
        "embeddings": "/models/{model}:batchEmbedContents",
        "speech": PATHS["gemini"],
        "transcription": PATHS["gemini"],
        "translation": PATHS["gemini"],
    },
    models_path="/models?pageSize=1000",
    quirks=Quirks(embeddings_of_gemini=True, speech_of_gemini=True, transcripts="gemini"),
    speech=(
        ("gemini-2.*", Speech(formats=("wav", "pcm"), style_in_text=True)),
        ("gemini-3.1-*", Speech(formats=("wav", "pcm"), style_in_text=True)),
        ("*", Speech(formats=("wav", "pcm"))),
    ),
    fetches_urls=False,
    reasons_silently=("gemini-*",),
    default_model="gemini-flash-latest",
    documentation="https://ai.google.dev/api/generate-content",
)
