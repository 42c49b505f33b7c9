"""The judges of this folder tell what they compared, as tests do."""

import pytest

pytest.register_assert_rewrite("tests.faults.clients", "tests.faults.playing")
