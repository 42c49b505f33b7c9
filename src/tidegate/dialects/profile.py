"""Compatibility profiles: what a client sees, as a set of switches (design §7)."""

import msgspec

__all__ = ["DEFAULT_PROFILE", "PROFILES", "Profile"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One named preset. All switches off is OpenAI's own behaviour."""

    name: str
    responses_done: bool = False
    """A Responses stream ends with `data: [DONE]` (Open Responses §streaming; S65)."""
    responses_data_only: bool = False
    """A Responses stream has no `event:` lines (S65)."""
    responses_as_chat: bool = False
    """A Responses answer that is not streamed has the body of a chat completion (S66)."""
    transcript_text: bool = False
    """A transcript streams as `{"text": …}` frames, without types, and ends with `[DONE]` (S89)."""
    reasoning_names: bool = False
    """Raw reasoning events are called `response.reasoning.*` (Open Responses)."""
    strict_nulls: bool = False
    """Optional members are left out where Open Responses' schema does not take null."""


DEFAULT_PROFILE = "openai"

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="openai"),
        Profile(name="openresponses", responses_done=True, reasoning_names=True, strict_nulls=True),
        Profile(name="anyfast"),
        Profile(name="kkiai", responses_done=True, responses_data_only=True, responses_as_chat=True),
        Profile(name="deepintshield", transcript_text=True),
        Profile(name="text", transcript_text=True),
    )
}
