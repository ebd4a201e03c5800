"""`strata generate` as it is used. Usage: generate_test.py PROGRAM"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop()
USAGE, FAILED, BUDGET = 2, 1, 3

MODEL = {"model_type": "llama", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 3,
         "initializer_range": 0.3, "tie_word_embeddings": False}
TRAINING = {"train_batch_size": 1, "optimizer": {"type": "AdamW", "params": {"lr": 1e-9}}, "fp16": {"enabled": False},
            "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"},
                                  "offload_optimizer": {"device": "cpu"}}}

try:
    import tokenizers
except ImportError:
    tokenizers = None


def make_model(root: pathlib.Path) -> pathlib.Path:
    """A directory with random weights."""
    (root / "config.json").write_text(json.dumps(MODEL))
    (root / "ds.json").write_text(json.dumps(TRAINING))
    (root / "text.txt").write_text("some text to begin with\n" * 20)
    path = root / "model"
    subprocess.run([PROGRAM, "finetune", "--model-config", "config.json", "--data", "text.txt", "--config", "ds.json",
                    "--output", path, "--steps", "1", "--seq-len", "16"], cwd=root, check=True, capture_output=True)
    return path


class ProgramTest(unittest.TestCase):
    """Tests that share a model and a directory to work in."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="strata_generate_")
        cls.root = pathlib.Path(cls.directory.name)
        cls.model = make_model(cls.root)
        (cls.root / "nvme").mkdir()
        (cls.root / "p.ids").write_text("5 6 7\n8\n9 10 11 12 13\n")

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def run_program(self, *options, python=sys.executable, model=None):
        return subprocess.run(
            [PROGRAM, "generate", "--model", model or self.model, *map(str, options)], cwd=self.root,
            capture_output=True, text=True, timeout=100, check=False,
            env={**os.environ, "STRATA_PYTHON": python, "OMP_NUM_THREADS": "1"})

    def generate(self, *options, **more):
        result = self.run_program(*options, **more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def assert_refused(self, code, words, *options, **more):
        result = self.run_program(*options, **more)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        for word in words:
            self.assertIn(word, result.stderr)


class Ids(ProgramTest):
    def test_ids_need_no_python_and_come_back_a_line_each(self):
        result = self.generate("--tokens", "p.ids", "--max-new-tokens", 5, "--ignore-eos", python="/no/python")
        lines = [list(map(int, line.split())) for line in result.stdout.splitlines()]
        self.assertEqual([len(line) for line in lines], [5, 5, 5])
        (self.root / "one.ids").write_text("8\n")
        alone = self.generate("--tokens", "one.ids", "--max-new-tokens", 5, "--ignore-eos", python="/no/python")
        self.assertEqual(list(map(int, alone.stdout.split())), lines[1])

    def test_weights_alone_are_placed_and_one_pass_serves_all_prompts(self):
        result = self.generate("--tokens", "p.ids", "--max-new-tokens", 6, "--ignore-eos", "--nvme", "nvme",
                               "--budget", "device=64KiB")
        for word in ("optimizer states", "gradient", "window"):
            self.assertNotIn(word, result.stderr)
        totals = re.search(r"generated 18 tokens for 3 prompts in .* tokens/s; .* of weights read from nvme .* "
                           r"in 6 passes", result.stderr)
        self.assertIsNotNone(totals, result.stderr)
        self.assertEqual(list((self.root / "nvme").iterdir()), [])

    def test_the_order_of_units_is_learnt_so_that_those_stay_that_come_next(self):
        passes = 20
        result = self.generate("--tokens", "p.ids", "--max-new-tokens", passes, "--ignore-eos", "--nvme", "nvme",
                               "--budget", "device=136KiB")  # half of the units
        units = {"KiB": 1, "MiB": 1024}
        weights = re.search(r"nvme +([\d.]+) (KiB|MiB)  weights", result.stderr)
        read = re.search(r"([\d.]+) (KiB|MiB) of weights read from nvme", result.stderr)
        self.assertIsNotNone(read, result.stderr)
        # The unit that was used longest ago is always the next one: without the order all are read each time.
        self.assertLess(float(read[1]) * units[read[2]], 0.75 * passes * float(weights[1]) * units[weights[2]])

    def test_keys_and_values_have_a_budget_of_their_own(self):
        self.assert_refused(BUDGET, ["p.ids:1", "--kv-budget"], "--tokens", "p.ids", "--kv-budget", "1KiB")
        least = re.search(r"take .*? \((\d+) bytes\)", self.run_program(
            "--tokens", "p.ids", "--max-new-tokens", 5, "--kv-budget", "1KiB").stderr)
        (self.root / "one.ids").write_text("5 6 7\n")
        self.generate("--tokens", "one.ids", "--max-new-tokens", 5, "--kv-budget", least[1])
        turns = self.generate("--tokens", "p.ids", "--max-new-tokens", 5, "--kv-budget", 2 * int(least[1]))
        self.assertIn("turns", turns.stderr)

    def test_what_cannot_be_used_is_named(self):
        self.assert_refused(USAGE, ["--prompt"])
        self.assert_refused(USAGE, ["--top-p"], "--tokens", "p.ids", "--top-p", "0")
        self.assert_refused(USAGE, ["--prompt"], "--tokens", "p.ids", "--prompt", "x")
        self.assert_refused(FAILED, ["none.ids"], "--tokens", "none.ids")
        (self.root / "bad.ids").write_text("1 2\n1 x\n")
        self.assert_refused(FAILED, ["bad.ids:2"], "--tokens", "bad.ids")
        (self.root / "bad.ids").write_text("1 2\n256\n")
        self.assert_refused(FAILED, ["bad.ids:2", "256"], "--tokens", "bad.ids")
        (self.root / "bad.ids").write_text("1 " * 64 + "\n")
        self.assert_refused(FAILED, ["context of 64"], "--tokens", "bad.ids")
        self.assert_refused(USAGE, ["--kv-budget"], "--tokens", "p.ids", "--kv-budget", "much")
        self.assert_refused(BUDGET, ["device budget"], "--tokens", "p.ids", "--budget", "device=1")

    def test_where_tokens_cannot_be_made_the_way_out_is_named(self):
        self.assert_refused(USAGE, ["/no/python", "STRATA_PYTHON", "--tokens"], "--prompt", "x", python="/no/python")
        self.assert_refused(USAGE, ["holds no tokenizer"], "--prompt", "x")
        self.assert_refused(USAGE, ["STRATA_PYTHON", "--tokens"], "--prompt", "x", python="/bin/false")

    def test_an_interruption_ends_it(self):
        with subprocess.Popen([PROGRAM, "generate", "--model", self.model, "--tokens", "p.ids", "--nvme", "nvme"],
                              cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        self.assertIn(process.returncode, (130, -signal.SIGTERM, 0))
        self.assertEqual(list((self.root / "nvme").iterdir()), [])


@unittest.skipIf(tokenizers is None, "the Python package 'tokenizers' is not installed")
class Texts(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(
            {character: i for i, character in enumerate(tokenizers.pre_tokenizers.ByteLevel.alphabet())}, []))
        cls.tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        cls.tokenizer.decoder = tokenizers.decoders.ByteLevel()
        cls.with_texts = cls.root / "texts"
        cls.with_texts.mkdir()
        for file in ("config.json", "model.safetensors"):
            (cls.with_texts / file).write_bytes((cls.model / file).read_bytes())
        cls.tokenizer.save(str(cls.with_texts / "tokenizer.json"))
        (cls.with_texts / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))

    def test_texts_become_tokens_and_tokens_texts(self):
        (self.root / "p.txt").write_text("Hello\nwörld, you\n", encoding="utf-8")
        result = self.generate("--prompt-file", "p.txt", "--max-new-tokens", 9, "--json", model=self.with_texts)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        for line, text in zip(lines, ("Hello", "wörld, you")):
            self.assertEqual(line["prompt"], text)
            self.assertEqual(line["prompt_tokens"], self.tokenizer.encode(text).ids)
            self.assertEqual(line["text"], self.tokenizer.decode(line["tokens"]))

    def test_a_single_text_is_written_as_it_is_made(self):
        options = ("--prompt", "Hello", "--max-new-tokens", 9, "--ignore-eos")
        plain = self.generate(*options, model=self.with_texts).stdout
        json_line = json.loads(self.generate(*options, "--json", model=self.with_texts).stdout)
        self.assertEqual(plain, json_line["text"] + "\n")

    def test_several_texts_follow_their_prompts(self):
        (self.root / "p.txt").write_text("one\ntwo\n")
        result = self.generate("--prompt-file", "p.txt", "--max-new-tokens", 3, model=self.with_texts)
        self.assertIn("[1] one\n", result.stdout)
        self.assertIn("[2] two\n", result.stdout)


if __name__ == "__main__":
    unittest.main()
