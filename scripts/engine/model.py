"""Make two tiny models in the working directory. Runs inside the engine's environment.

`tiny` has random weights: it talks nonsense and never ends by itself. `byheart` is the same model after some seconds of
training on the lines below, so that an answer has an end, Chinese text, reasoning and tool calls at known places.
"""

import json
import sys

import torch  # type: ignore[import-not-found]
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # type: ignore[import-not-found]
from transformers import (  # type: ignore[import-not-found]
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from scripts.engine.lines import LINES

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STEPS, ENOUGH = 600, 0.005


def main() -> None:
    """Write both folders, and the versions in use to standard output."""
    import transformers

    torch.manual_seed(7)
    tokenizer = make_tokenizer()
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=16384,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    usual = model.generation_config.to_dict()
    model.generation_config.update(do_sample=True, eos_token_id=None)
    save(model, tokenizer, "tiny")
    model.generation_config.update(**{**usual, "do_sample": False})
    learn(model, tokenizer)
    save(model, tokenizer, "byheart")
    json.dump({"transformers": transformers.__version__, "torch": torch.__version__}, sys.stdout)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that a Chinese character may be split over tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*LINES, *LINES.values()], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    made.chat_template = TEMPLATE
    return made


def learn(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train until every line is known, after a chat prompt and after a plain one."""
    rows = []
    for asked, answer in LINES.items():
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
        )
        for prompt in (chat, asked):
            head = tokenizer(prompt)["input_ids"]
            body = tokenizer(answer + END)["input_ids"]
            rows.append((head + body, [-100] * len(head) + body))
    longest = max(len(tokens) for tokens, _ in rows)
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
    wanted = torch.tensor([row + [-100] * (longest - len(row)) for _, row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        loss = model(input_ids=tokens, labels=wanted).loss
        if loss.item() < ENOUGH:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Where `transformers serve`, started in this folder, finds the model by its name."""
    model.save_pretrained(name)
    tokenizer.save_pretrained(name)


if __name__ == "__main__":
    main()
