"""Google Gemini."""

from typing import Final

from tidegate.providers.record import Provider

# Every model since 2.5 thinks before it answers, and sends nothing meanwhile unless thoughts are asked for.
GEMINI: Final = Provider(
    kind="gemini",
    title="Google Gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta",
    env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    auth="x-goog-api-key",
    speaks=("gemini",),
    reasons_silently=("gemini-*",),
    default_model="gemini-flash-latest",
    documentation="https://ai.google.dev/api/generate-content",
)
