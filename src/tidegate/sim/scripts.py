"""Scripts: the base names, what each of them says, and the options it starts from."""

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from tidegate.sim.answer import CJK, Answer, Call, even_pieces, limited, pieces, stopped
from tidegate.sim.options import Options
from tidegate.sim.prompt import Prompt, Tool

_HAS_CJK = re.compile(f"[{CJK}]")

DEMO_EN = """\
Hello! You are talking to sim, the simulator inside Tidegate: this answer is made up, no model has read your question.

To get real answers, put a provider's key into the environment and start Tidegate again, for example:

    export OPENAI_API_KEY=sk-...

Other providers work the same way (OPENROUTER_API_KEY, DEEPSEEK_API_KEY, GROQ_API_KEY and so on), and a model server on this machine, \
such as Ollama, vLLM or LM Studio on its usual port, is found without any key.

Tidegate is a self-hosted AI gateway. It speaks the APIs of OpenAI, Anthropic and Gemini to your programs and passes every answer on as it comes: \
this text reached you word by word through that very path. Have fun! 🌊"""

DEMO_ZH = """\
你好！正在回答你的是 sim，也就是 Tidegate 自带的模拟器：这段回答是预先写好的，并没有模型读到你的问题。

想得到真正的回答，请把服务商的密钥放进环境变量，然后重新启动 Tidegate，例如：

    export OPENAI_API_KEY=sk-...

其他服务商也是一样（OPENROUTER_API_KEY、DEEPSEEK_API_KEY、DASHSCOPE_API_KEY 等）；本机上监听常用端口的模型服务，\
例如 Ollama、vLLM 或 LM Studio，无需密钥即可自动发现。

Tidegate 是一个可以自行部署的 AI 网关。它向你的程序提供 OpenAI、Anthropic 和 Gemini 的接口，回答一到就立即转发：\
你看到的这段文字，正是这样逐字送达的。祝你使用愉快！🌊"""

HEARD = (
    "This transcript is made up: sim, the simulator inside Tidegate, has counted the bytes of your recording and listened "
    "to none of them. Put a provider's key into the environment and start Tidegate again to have it heard."
)

ZH = "潮汐之门把每个回答都当作一条河流：有序、持久、可以续传。🌊 你好，世界！👩‍👩‍👧‍👦 𠮷野家的牛肉饭很好吃。"
LOREM = " lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore"
THOUGHT = "The question is simple. First I look at what is asked, then I choose the shortest honest answer."
CONCLUSION = "The answer is 42."
REFUSAL = "I'm sorry, but I can't help with that request."


class Script(msgspec.Struct, frozen=True):
    """A base name: what it does, in one line; the options it starts from; and how it finds one choice's answer."""

    summary: str
    say: Callable[[Options, Prompt, str], Answer]
    defaults: dict[str, Any] = {}
    listed: bool = True


def _in_pieces(text: str, options: Options) -> tuple[str, ...]:
    text = text if options.text is None else options.text
    return pieces(text) if options.chunks is None else even_pieces(text, options.chunks)


def _demo(options: Options, prompt: Prompt, text: str) -> Answer:
    if prompt.endpoint == "speech":
        return _echo(options, prompt, text)
    if prompt.endpoint == "transcription":
        return Answer(text=_in_pieces(HEARD, options))
    return Answer(text=_in_pieces(DEMO_ZH if _HAS_CJK.search(text) else DEMO_EN, options))


def _echo(options: Options, _prompt: Prompt, text: str) -> Answer:
    return Answer(text=_in_pieces(text, options))


def _zh(options: Options, _prompt: Prompt, _text: str) -> Answer:
    return Answer(text=_in_pieces(ZH, options))


def _lorem(options: Options, _prompt: Prompt, _text: str) -> Answer:
    if options.text is not None:
        return Answer(text=_in_pieces(options.text, options))
    count = 10 if options.chunks is None else options.chunks
    size = 16 if options.size is None else options.size
    filler = LOREM * (size // len(LOREM) + 1)
    # Each piece begins with its number, so that a lost, doubled or moved one shows.
    return Answer(text=tuple(f" {i}{filler}"[:size] for i in range(count)))


def _reasoning(options: Options, _prompt: Prompt, _text: str) -> Answer:
    return Answer(reasoning=pieces(THOUGHT), text=_in_pieces(CONCLUSION, options))


def _refusal(options: Options, _prompt: Prompt, _text: str) -> Answer:
    return Answer(refusal=_in_pieces(REFUSAL, options))


def _tools(options: Options, prompt: Prompt, _text: str) -> Answer:
    if prompt.tool_result is not None:
        return Answer(text=_in_pieces(f"The tool said: {prompt.tool_result}", options))
    wanted = options.tool
    # A gateway may have put the name of a tool's group before its own.
    tools = [
        tool for tool in prompt.tools if wanted is None or tool.name == wanted or tool.name.endswith(f"__{wanted}")
    ]
    if not tools:
        return Answer(text=_in_pieces("No tool was offered, so there is nothing to call.", options))
    calls = []
    for i in range(options.parallel):
        tool = tools[i % len(tools)]
        written = _arguments(tool, i) if options.args is None else _given(tool, options.args)
        written_pieces = even_pieces(written, options.chunks or max(2, len(written) // 8))
        calls.append(Call(tool.name, written_pieces, tool.custom, tool.namespace))
    return Answer(calls=tuple(calls), finish="tool_calls")


def _given(tool: Tool, written: str) -> str:
    """Free text for a tool that takes an object with nothing but a text goes there."""
    members = tool.parameters.get("properties")
    if tool.custom or written.lstrip().startswith("{") or not isinstance(members, dict) or len(members) != 1:
        return written
    return json.dumps(dict.fromkeys(members, written), ensure_ascii=False)


def _arguments(tool: Tool, turn: int) -> str:
    if tool.custom:
        return f"input {turn} for {tool.name}"
    return json.dumps(_sample(tool.parameters, turn), ensure_ascii=False)


def _sample(schema: Any, turn: int, depth: int = 0) -> Any:
    """A value that fits the common parts of JSON schema: enum, const, default, type, properties, items."""
    if not isinstance(schema, dict) or depth > 8:
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][turn % len(schema["enum"])]
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _sample(schema[key][0], turn, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind:
        case "string":
            return f"sim {turn}"
        case "integer":
            return max(int(schema.get("minimum", 0)), turn)
        case "number":
            return max(float(schema.get("minimum", 0)), float(turn))
        case "boolean":
            return turn % 2 == 0
        case "array":
            return [_sample(schema.get("items"), turn, depth + 1)]
        case "null":
            return None
    members = schema.get("properties")
    return (
        {name: _sample(member, turn, depth + 1) for name, member in members.items()}
        if isinstance(members, dict)
        else {}
    )


SCRIPTS: dict[str, Script] = {
    "demo": Script(
        "explains Tidegate and how to set a provider's key, in English or Chinese, at reading pace", _demo, {"gap": 33}
    ),
    "echo": Script("answers with the last user text", _echo),
    "lorem": Script("`chunks` numbered pieces of `size` bytes", _lorem),
    "zh": Script("a fixed Chinese text with emoji and characters outside the basic plane", _zh),
    "reasoning": Script("thinks first, then answers", _reasoning),
    "tools": Script(
        "calls the first tool offered (`parallel` calls go round the tools); answers when it has a result", _tools
    ),
    "refusal": Script("refuses", _refusal),
    "bench": Script(
        "as lorem, with frames of about 270 bytes, built once and replayed (ids and echoed parameters repeat; n, stop and limits are ignored)",
        _lorem,
        {"chunks": 100, "size": 24},
    ),
}


def answers(script: Script, options: Options, prompt: Prompt) -> list[Answer]:
    """The answer of each choice: `n` for each prompt, with stop sequences, limit and the finish option applied."""
    said: list[Answer] = []
    for text in prompt.texts:
        answer = script.say(options, prompt, text)
        answer = limited(stopped(answer, prompt.stops), prompt.limit)
        if prompt.endpoint == "completions":
            # Plain completions have neither tools nor refusals; what a model would say is said as text.
            spoken = answer.text + answer.refusal
            echoed = pieces(text) if prompt.body.get("echo") else ()
            finish = "stop" if answer.finish == "tool_calls" else answer.finish
            answer = Answer(text=echoed + spoken, finish=finish)
        if options.finish is not None:
            answer = msgspec.structs.replace(answer, finish=options.finish)
        said.extend([answer] * prompt.n)
    return said
