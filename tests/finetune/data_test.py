"""The training data of `strata finetune`, as it is used. Usage: data_test.py TOKENIZER_SCRIPT PROGRAM"""

import importlib.util
import json
import pathlib
import subprocess
import sys
import unittest

import program

SCRIPT = sys.argv.pop()

try:
    import tokenizers
    import transformers
except ImportError:
    transformers = None

START, END = 257, 256
TEMPLATE = ("{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|end|>\n{% endfor %}")
WITH_GENERATION = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}A:{% generation %}{{ m['content'] }}<|end|>"
    "{% endgeneration %}{% else %}Q:{{ m['content'] }}{% endif %}{% endfor %}")
CHANGES_ANSWERS = "{% for m in messages %}{{ m['content'] | upper }}<|end|>{% endfor %}"
# What the helper uses of transformers, without the seconds that it takes to load.
STAND_IN = """
import tokenizers

class AutoTokenizer:
    is_fast, chat_template, added_tokens_decoder = True, "by hand", {}
    eos_token_id, all_special_tokens = 256, ["<|end|>", "<|start|>"]

    @classmethod
    def from_pretrained(cls, directory, local_files_only):
        made = cls()
        made.tokenizer = tokenizers.Tokenizer.from_file(directory + "/tokenizer.json")
        return made

    def __call__(self, text, add_special_tokens, return_offsets_mapping):
        made = self.tokenizer.encode(text)
        return {"input_ids": made.ids, "offset_mapping": made.offsets}

    def apply_chat_template(self, messages, tokenize):
        return "".join("<|start|>" + m["role"] + " " + m["content"].strip() + "<|end|>" for m in messages)
"""
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": " yes "},
        {"role": "user", "content": "more"}, {"role": "assistant", "content": "no"}]


def write_tokenizer(directory: pathlib.Path, template: str = "") -> pathlib.Path:
    """A tokenizer of bytes with two special tokens, the first of which ends texts."""
    directory.mkdir(exist_ok=True)
    vocabulary = {c: i for i, c in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<|end|>", "<|start|>"])
    made.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    if template:
        config["chat_template"] = template
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "config.json").write_text(json.dumps({**program.TINY_MODEL, "vocab_size": 258}))
    return directory


@unittest.skipIf(transformers is None, "needs the Python package transformers")
class Templates(program.WorkspaceTest):
    def chat(self, template):
        spec = importlib.util.spec_from_file_location("tokenizer_process", SCRIPT)
        helper = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(helper)
        tokenizer = helper.OfTransformers(str(write_tokenizer(self.space.path / "model", template)))
        made = helper.documents(tokenizer, {"documents": [{"messages": CHAT}], "everything": False})
        if "refused" in made:
            return made
        document = made["documents"][0]
        return [tokenizer.decode(document["ids"][begin:end], skip_special=False) for begin, end in document["bears"]]

    def test_answers_and_the_token_that_ends_each_bear_loss(self):
        self.assertEqual(self.chat(TEMPLATE), ["yes<|end|>", "no<|end|>"])

    def test_a_template_that_marks_what_is_generated_is_followed(self):
        self.assertEqual(self.chat(WITH_GENERATION), [" yes <|end|>", "no<|end|>"])

    def test_a_template_that_does_not_say_where_answers_are_is_refused(self):
        refused = self.chat(CHANGES_ANSWERS)
        self.assertEqual(refused["at"], 0)
        self.assertIn("--loss-on everything", refused["refused"])


@unittest.skipIf(transformers is None, "needs the Python packages transformers and tokenizers")
class Data(program.WorkspaceTest):
    def setUp(self):
        super().setUp()
        self.model = self.space.path / "model"
        self.space.write("model.json", {**program.TINY_MODEL, "vocab_size": 258})
        self.run_program({"--output": self.model})
        # Without transformers the helper is quick; it reads tokenizer.json by the package tokenizers.
        self.write_transformers("raise ImportError")

    def write_transformers(self, text):
        self.space.write("quick/transformers.py", text)

    def run_program(self, changes, code=0, **variables):
        environment = {**program.environment(), "STRATA_PYTHON": sys.executable,
                       "PYTHONPATH": str(self.space.path / "quick"), **variables}
        result = subprocess.run(self.space.command(changes), cwd=self.space.path, capture_output=True, text=True,
                                timeout=240, check=False, env=environment)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def files(self):
        return {str(path) for path in self.space.path.rglob("*")}

    def test_a_run_on_chats_goes_on_bit_for_bit_from_tokens_that_were_kept(self):
        write_tokenizer(self.model)
        self.write_transformers(STAND_IN)
        chats = [{"messages": CHAT}, {"messages": CHAT[:2]}] * 9
        self.space.write("chats.txt", "\n".join(map(json.dumps, chats)) + "\n")
        options = {"--model-config": None, "--model": self.model, "--data": "chats.txt", "--steps": None,
                   "--epochs": 3, "--seq-len": 32, "--val-fraction": 0.2, "--save-every": 1}
        result = self.run_program({**options, "--output": "a", "--checkpoints": "ca"})
        self.assertIn("14 examples", result.stderr)
        kept = [path.name for path in self.space.path.glob(".chats.txt.*")]
        self.assertEqual(len(kept), 1, kept)

        # No Python from here on: the tokens are there.
        first = {**options, "--output": "b", "--checkpoints": "cb", "--max-minutes": 1e-6}
        self.run_program(first, STRATA_PYTHON="/no/python")
        go_on = {**options, "--output": "c", "--checkpoints": "cb", "--resume": True}
        self.run_program(go_on, STRATA_PYTHON="/no/python")
        models = [(self.space.path / run / "model.safetensors").read_bytes() for run in "ac"]
        self.assertTrue(models[0] == models[1])
        lines = [map(json.loads, (self.space.path / run / "metrics.jsonl").read_text().splitlines()) for run in "ac"]
        self.assertEqual(*([line["loss"] for line in of_run if "lr" in line] for of_run in lines))
        result = self.run_program({**go_on, "--output": "d", "--pack": "off"}, code=2, STRATA_PYTHON="/no/python")
        self.assertIn("--pack", result.stderr)

    def test_completions_are_shown_and_nothing_is_written(self):
        write_tokenizer(self.model)
        self.space.write("x.bin", '{"prompt": "ab", "completion": "cd"}\n{"prompt": "e", "completion": "f"}\n')
        options = {"--model-config": None, "--model": self.model, "--data": "x.bin", "--output": None,
                   "--show-batch": True}
        before = self.files()
        shown = self.run_program({**options, "--pack": "off", "--config": None}).stdout
        self.assertIn("cd<|end|>»" if "ab" in shown else "e«f<|end|>»", shown)
        shown = self.run_program({**options, "--seq-len": 8, "--loss-on": "everything"}).stdout
        self.assertIn("a«bcd<|end|>»\n----\ne«f<|end|>»\n", shown)
        self.assertEqual(self.files(), before)

        self.space.write("x.bin", '{"prompt": "ab", "completion": "cd"}\n{"prompt": "e"}\n')
        result = self.run_program({**options, "--show-batch": None, "--output": "out"}, code=1)
        self.assertIn("x.bin:2: has the keys \"prompt\"", result.stderr)
        self.space.write("x.bin", json.dumps({"messages": CHAT}))
        result = self.run_program({**options, "--show-batch": None, "--output": "out"}, code=2)
        self.assertIn("chat template", result.stderr)
        self.assertEqual(self.files(), before)

    def test_text_becomes_tokens_of_the_models_tokenizer_kept_where_that_can_be_written(self):
        write_tokenizer(self.model)
        long_name = "t" * 230  # beside which no hidden file has a name
        self.space.write(long_name, program.TEXT)
        options = {"--model-config": None, "--model": self.model, "--data": long_name, "--sample": 3,
                   "--prompt": "<|start|>"}
        result = self.run_program({**options, "--output": "a"})
        self.assertIn("are made anew by every run", result.stderr)
        self.assertNotIn("its bytes are the tokens", result.stderr)
        result = self.run_program({**options, "--output": "b", "--tokenizer": "bytes"})
        self.assertIn("its bytes are the tokens", result.stderr)
        result = self.run_program({**options, "--output": "c"}, code=2, STRATA_PYTHON="/no/python")
        self.assertIn("--tokenizer bytes", result.stderr)

    def test_windows_of_text_come_once_an_epoch(self):
        options = {"--steps": None, "--epochs": 2, "--seq-len": 16}
        result = self.run_program({**options, "--data": self.space.write("t.txt", "ab" * 201)})
        self.assertIn("run: 7 steps", result.stderr)  # 2 x 25 windows, 8 a step
        result = self.run_program({**options, "--order": "random", "--output": "b"}, code=2)
        self.assertIn("--order random has no epochs", result.stderr)


if __name__ == "__main__":
    unittest.main()
