"""What cannot be tried where a package of an extra does not exist for this platform and Python."""

import re

import pytest

from tidegate.config.checks import is_installed
from tidegate.providers.registry import REGISTRY

__all__ = ["needs_local_audio", "skip_if_it_needs_absent_packages"]

_IS_THERE = is_installed(REGISTRY["local-audio"])
_REASON = "the extra local-audio is not installed"
_NAMES_IT = re.compile(r'^\[providers\.local-audio\]|^kind = "local-audio"', re.MULTILINE)

needs_local_audio = pytest.mark.skipif(not _IS_THERE, reason=_REASON)


def skip_if_it_needs_absent_packages(configuration: str) -> None:
    if not _IS_THERE and _NAMES_IT.search(configuration):
        pytest.skip(_REASON)
