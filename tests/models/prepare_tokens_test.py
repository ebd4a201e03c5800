"""Holds what tools/prepare_tokens.py promises. Usage: prepare_tokens_test.py PREPARE_TOKENS_PY"""

import array
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import tokenizers
except ImportError:
    tokenizers = None

SCRIPT = sys.argv.pop(1)


def read_tokens(path, typecode="H"):
    tokens = array.array(typecode, path.read_bytes())
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens.tolist()


class PrepareTokens(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.output = self.directory / "tokens"

    def write(self, name, text):
        path = self.directory / name
        path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
        return path

    def run_script(self, *arguments):
        return subprocess.run(
            [sys.executable, "-B", SCRIPT, "--output", self.output, *map(str, arguments)],
            capture_output=True, text=True, check=False,
        )

    def assert_fails(self, result, *words):
        self.assertNotEqual(result.returncode, 0)
        self.assertNotIn("Traceback", result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def make_tokenizer(self, vocabulary_size):
        """A model directory whose words are w0, w1, ... and the end-of-text token."""
        words = {f"w{i}": i for i in range(vocabulary_size - 1)}
        words["<|endoftext|>"] = vocabulary_size - 1
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        model = self.directory / "model"
        model.mkdir()
        tokenizer.save(str(model / "tokenizer.json"))
        return model


class CharacterLevel(PrepareTokens):
    def test_ids_are_places_among_the_sorted_characters(self):
        text = "hello wörld\n" * 5
        result = self.run_script("--char-level", "--val-fraction", "0.25", self.write("a.txt", text))
        self.assertEqual(result.returncode, 0, result.stderr)
        meta = json.loads((self.output / "meta.json").read_text(encoding="utf-8"))
        self.assertEqual(meta["characters"], sorted(set(text)))
        self.assertEqual(meta["vocab_size"], len(set(text)))
        ids = {c: i for i, c in enumerate(sorted(set(text)))}
        for name, part in (("train.bin", text[:45]), ("val.bin", text[45:])):
            tokens = read_tokens(self.output / name)
            self.assertEqual(tokens, [ids[c] for c in part], name)

    def test_without_a_validation_fraction_everything_is_for_training(self):
        self.run_script("--char-level", self.write("a.txt", "abc"), self.write("b.txt", "cab"))
        tokens = read_tokens(self.output / "train.bin")
        self.assertEqual(tokens, [0, 1, 2, 2, 0, 1])
        self.assertFalse((self.output / "val.bin").exists())

    def test_says_what_is_wrong_with_the_input(self):
        text = self.write("a.txt", "abc")
        self.assert_fails(self.run_script("--char-level", self.directory / "none.txt"), "none.txt")
        self.assert_fails(self.run_script("--char-level", self.write("empty.txt", "")), "no text")
        latin = self.write("latin.txt", b"caf\xe9")
        self.assert_fails(self.run_script("--char-level", latin), "latin.txt", "byte 3")
        self.assert_fails(self.run_script("--char-level", "--val-fraction", "1", text), "--val-fraction")
        self.assert_fails(self.run_script("--char-level", "--val-fraction", "0.01", text), "val.bin")
        self.assert_fails(self.run_script(text), "--char-level")
        self.assertFalse(self.output.exists())

    def test_leaves_no_partial_file_behind(self):
        self.output.mkdir()
        (self.output / "train.bin").mkdir()
        self.assert_fails(self.run_script("--char-level", self.write("a.txt", "abc")), "train.bin")
        self.assertEqual([path.name for path in self.output.iterdir()], ["train.bin"])


@unittest.skipIf(tokenizers is None, "the Python package 'tokenizers' is not installed")
class ModelTokenizer(PrepareTokens):
    def test_inputs_are_tokenized_and_separated(self):
        model = self.make_tokenizer(20)
        first, second = self.write("a.txt", "w3 w1 w4\nw1"), self.write("b.txt", "w5 w9")
        result = self.run_script("--model", model, first, second)
        self.assertEqual(result.returncode, 0, result.stderr)
        tokens = read_tokens(self.output / "train.bin")
        self.assertEqual(tokens, [3, 1, 4, 1, 19, 5, 9])

    def test_a_large_vocabulary_takes_uint32(self):
        model = self.make_tokenizer(70000)
        self.run_script("--model", model, self.write("a.txt", "w69998 w2"))
        tokens = read_tokens(self.output / "train.u32.bin", "I")
        self.assertEqual(tokens, [69998, 2])

    def test_long_text_is_cut_between_words(self):
        model = self.make_tokenizer(20)
        lines = 300_000  # beyond what is tokenized at a time
        self.run_script("--model", model, self.write("a.txt", "w12 w7\n" * lines))
        tokens = read_tokens(self.output / "train.bin")
        self.assertEqual(tokens, [12, 7] * lines)

    def test_says_what_is_wrong_with_the_model(self):
        text = self.write("a.txt", "abc")
        self.assert_fails(self.run_script("--model", self.directory / "none", text), "none")
        self.assert_fails(self.run_script("--model", self.directory, text), "holds no tokenizer")
        model = self.make_tokenizer(20)
        (model / "tokenizer.json").write_text("{")
        self.assert_fails(self.run_script("--model", model, text), "tokenizer.json")

    def test_a_text_without_tokens_is_an_error(self):
        model = self.make_tokenizer(20)
        self.assert_fails(self.run_script("--model", model, self.write("a.txt", "\n\n")), "no token")
        self.assertEqual(list(self.output.iterdir()), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
