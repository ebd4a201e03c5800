"""The examples of docs/python.md run, one after the other, as one program.

Usage: documentation_test.py PACKAGE_FOLDER
"""

import os
import pathlib
import re
import unittest

from package import PackageTest, strata, torch

MANUAL = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"


class Manual(PackageTest):
    def test_has_examples_that_run(self):
        text = MANUAL.read_text(encoding="utf-8")
        examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(examples), 4)
        before = os.getcwd()
        os.chdir(self.space)
        try:
            names = {}
            for example in examples:
                code = example.replace("/mnt/nvme0", str(self.disk))
                exec(compile(code, str(MANUAL), "exec"), names)
            self.assertGreater(names["optimizer"].state_of(names["model"].weight)["step"], 0)
            names["optimizer"].close()
            del names
        finally:
            os.chdir(before)

    def test_names_every_argument_and_error(self):
        text = MANUAL.read_text(encoding="utf-8")
        for name in strata.Offload.__annotations__:
            self.assertIn(f"`{name}`", text)
        for name, value in vars(strata).items():
            if isinstance(value, type) and issubclass(value, strata.Error) and name != "Error":
                self.assertIn(f"| `{name}` |", text)

    def test_says_how_many_bytes_a_parameter_has(self):
        for dtype, arguments, expected in (
            (torch.float32, {}, 8),
            (torch.bfloat16, {"moments": "int8"}, 4),
            (torch.bfloat16, {"moments": "int8", "master": "24bit"}, 3),
        ):
            weight = torch.nn.Parameter(torch.zeros(1024, 64, dtype=dtype))
            with self.made(strata.AdamW, [weight], **arguments) as optimizer:
                self.assertEqual(optimizer.usage().states_in_host, expected * weight.numel())


if __name__ == "__main__":
    unittest.main()
