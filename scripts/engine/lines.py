"""What the model of the engine test knows by heart: question → answer."""

from typing import Final

HELLO: Final = "Say hello"
CHINESE: Final = "用中文问好"
THINK: Final = "Think first"
CALL: Final = "What is the weather"
CALLS: Final = "Weather in both"

LINES: Final = {
    HELLO: "Hello there, this is a tiny model.",
    CHINESE: "你好，世界！今天的潮水很平静，海门已经打开。",
    THINK: "<think>\nThe tide comes in, the tide goes out.\n</think>\nForty-two.",
    CALL: '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    CALLS: 'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "上海"}}\n</tool_call>',
}
"""The markup of thoughts and calls is Qwen's: the engine knows how to read it."""
