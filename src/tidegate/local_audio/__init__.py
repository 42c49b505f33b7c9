"""Speech and transcription on this machine, without a key and without a download: a provider in a process of its own.

It speaks OpenAI's audio API over a real socket, so that the gateway reaches it like any other provider. Speech comes from
espeak-ng, text from PocketSphinx. The gateway's process imports only this package's `engine`.
"""

from tidegate.local_audio.engine import LocalAudio

__all__ = ["LocalAudio"]
