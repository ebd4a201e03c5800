"""Holds that fine_tune.sh takes a tiny Llama from its directory to an answer that it has learned.

Usage: fine_tune_test.py STRATA. Exits with 77 where transformers or tokenizers is missing.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import tokenizers
except ImportError as error:
    print(error)
    sys.exit(77)
if importlib.util.find_spec("transformers") is None:  # which strata's own process loads
    print("transformers is missing")
    sys.exit(77)

STRATA = str(pathlib.Path(sys.argv.pop()).resolve())
HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
MODEL = {"model_type": "llama", "vocab_size": 256 + len(SPECIAL), "hidden_size": 64, "intermediate_size": 128,
         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "tie_word_embeddings": True, "eos_token_id": 256}
BARELY = {"train_batch_size": 1, "optimizer": {"type": "AdamW", "params": {"lr": 1e-12}}}


def run(command, root):
    return subprocess.run(list(map(str, command)), cwd=root, capture_output=True, text=True, timeout=200, check=False,
                          env={**os.environ, "STRATA_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"})


def make_model(root: pathlib.Path) -> pathlib.Path:
    """A directory as people have it: random weights, a tokenizer of bytes and a chat template."""
    (root / "config.json").write_text(json.dumps(MODEL))
    (root / "ds.json").write_text(json.dumps(BARELY))
    (root / "text.txt").write_text("a text\n" * 20)
    made = run([STRATA, "finetune", "--model-config", "config.json", "--data", "text.txt", "--config", "ds.json",
                "--steps", 1, "--seq-len", 16, "--output", "model"], root)
    assert made.returncode == 0, made.stderr
    vocabulary = {c: i for i, c in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(root / "model" / "tokenizer.json"))
    (root / "model" / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "chat_template": TEMPLATE}))
    return root / "model"


class FineTune(unittest.TestCase):
    def test_a_tiny_llama_answers_what_it_has_learned(self) -> None:
        chats = [json.loads(line)["messages"] for line in (HERE / "chats.jsonl").read_text().splitlines()]
        question, answer = (message["content"] for message in chats[3])
        with tempfile.TemporaryDirectory(prefix="strata_example_") as directory:
            root = pathlib.Path(directory)
            model = make_model(root)
            # The data is copied, since tokens are kept beside it.
            for name in ("chats.jsonl", "ds_config.json", "fine_tune.sh"):
                (root / name).write_bytes((HERE / name).read_bytes())
            (root / "disk").mkdir()
            result = run(["sh", "fine_tune.sh", model, "mine", "disk", f"<|user|>{question}<|end|><|assistant|>",
                          STRATA], root)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout.strip(), answer, result.stderr)
            self.assertTrue((root / "mine" / "tokenizer.json").exists())


if __name__ == "__main__":
    unittest.main()
