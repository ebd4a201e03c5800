"""What tests of parity with other libraries share: the sizes of tiny models, the files between them
and PARITY_PROGRAM, the program that is their last argument, and the comparison of numbers.
"""

import array
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

from hugging_face import ONE_BY_ONE, torch, transformers

transformers.utils.logging.set_verbosity_error()
PROGRAM = sys.argv.pop(1)
TOLERANCE = 2e-5  # of the largest number compared: roundings of fp32 in another order
NOTHING = 1e-7  # what is left of a gradient that is zero: of queries that see one key alone
STEPS, BATCH, LENGTH = 3, 2, 19
SIZES = dict(vocab_size=43, hidden_size=24, intermediate_size=37, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.2,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)


class Case:
    """A model, its inputs and what PARITY_PROGRAM makes of them, in a directory."""

    def __init__(self, path):
        self.path = path

    def draw_tokens(self, vocabulary):
        self.vocabulary = vocabulary
        self.all = torch.randint(vocabulary, (STEPS, BATCH, LENGTH + 1))
        numbers = array.array("q", self.all.flatten().tolist())
        (self.path / "tokens.bin").write_bytes(struct.pack("<3q", STEPS, BATCH, LENGTH) + numbers.tobytes())

    def tokens(self, step=0):
        return self.all[step, :, :-1]

    def loss(self, model, step=0):
        logits = model(self.tokens(step), use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.all[step, :, 1:].flatten())

    def loaded(self, directory, **options):
        return transformers.AutoModelForCausalLM.from_pretrained(self.path / directory, **ONE_BY_ONE, **options)

    def read(self, name, shape=(-1,)):
        data = bytearray((self.path / name).read_bytes())
        return torch.frombuffer(data, dtype=torch.float32).view(shape)

    def read_logits(self, name):
        return self.read(name, (BATCH, LENGTH, self.vocabulary))


class ParityTest(unittest.TestCase):
    """Tests of cases that the program computes once for all."""

    @classmethod
    def make_cases(cls, kind, names, seed=0):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        root = pathlib.Path(directory.name)
        cls.cases = {name: kind(root, name, number) for number, name in enumerate(names, seed)}
        subprocess.run([PROGRAM, *(str(case.path) for case in cls.cases.values())], check=True, timeout=200)

    def assert_close(self, ours, theirs, what, share=TOLERANCE):
        self.assertEqual(ours.shape, theirs.shape, what)
        allowed = share * theirs.abs().max().item() + NOTHING
        self.assertLessEqual((ours - theirs).abs().max().item(), allowed, what)
