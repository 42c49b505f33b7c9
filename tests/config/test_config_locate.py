"""The line of a value is found in whatever form TOML lets it be written."""

import pytest

from tidegate.config.locate import Locator, parse_path

TEXT = '''# [server] in a comment
top = 1
[server]          # the table
port = 1
"host" = "x"      # [not] a = header

[providers."my.lab"]
base_url = """
[server]
port = 3
"""
timeouts.idle = 3
headers = { a = "1", b = "[x]" }

[models.fast]
targets = [
  { model = "a", weight = 1 },
  # a comment with { braces }
  { model = "b" },
]
fallback = ["x",
  "y"]

[[keys]]
name = "one"
[[keys]]
name = 'two'
[keys.extra]
deep = true
[[a.b]]
[[a.b.c]]
d = 1
[[a.b.c]]
d = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("top", 2),
        ("server", 3),
        ("server.port", 4),
        ("server.host", 5),
        ("server.nothing", 3),
        ('providers."my.lab"', 7),
        ('providers."my.lab".base_url', 8),
        ('providers."my.lab".timeouts.idle', 12),
        ('providers."my.lab".headers.b', 13),
        ("models.fast.targets", 16),
        ("models.fast.targets[0].weight", 17),
        ("models.fast.targets[1].model", 19),
        ("models.fast.fallback[1]", 21),
        ("keys[0].name", 25),
        ("keys[1].name", 27),
        ("keys[1].secret", 26),
        ("keys[1].extra.deep", 29),
        ("a.b[0].c[1].d", 34),
        ("nowhere", None),
        ("", None),
    ],
)
def test_a_path_has_its_line(path: str, line: int | None) -> None:
    assert Locator(TEXT).line(path) == line


def test_a_path_is_taken_apart() -> None:
    assert parse_path('models."a.\\"b".targets[12].model') == ("models", 'a."b', "targets", 12, "model")
