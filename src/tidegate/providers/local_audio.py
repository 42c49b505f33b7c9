"""The local audio engine that comes with Tidegate: speech and transcription on this machine, without a key."""

from typing import Final

from tidegate.providers.record import Clocks, Provider

LOCAL_AUDIO: Final = Provider(
    kind="local-audio",
    title="Local audio engine",
    embedded=True,
    extra="local-audio",
    modules=("av", "espeakng_loader", "pocketsphinx", "python_multipart"),
    auth="none",
    speaks=("speech", "transcription", "translation"),
    models=("espeak-ng", "pocketsphinx"),
    default_speech_model="espeak-ng",
    default_transcription_model="pocketsphinx",
    # A slow machine listens no faster than people talk, and a transcription in one piece is silent until its end.
    clocks=Clocks(first_event=300.0, idle=120.0, total_unstreamed=6 * 3600.0),
)
