"""`strata inspect`: what is there, and whether it is sound.

Usage: inspect_test.py PROGRAM
"""

import subprocess
import unittest
from typing import Any

import program


class Inspect(program.WorkspaceTest):
    def setUp(self) -> None:
        super().setUp()
        self.finetune({"--steps": 2, "--save-every": 1})
        self.saved = self.space.path / "output.checkpoints"

    def inspect(self, *words: Any) -> subprocess.CompletedProcess:
        return subprocess.run([program.PROGRAM, "inspect", *map(str, words)], capture_output=True,
                              text=True, timeout=60, check=False, env=program.environment())

    def sound(self, *words: Any) -> str:
        result = self.inspect(*words)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("\nsound", result.stdout)
        return result.stdout

    def test_shows_every_tensor_of_what_is_sound(self) -> None:
        for words in ([self.saved], [self.saved / "step_00000002", "--verify"]):
            shown = self.sound(*words)
            self.assertIn("checkpoint step_00000002: after 2 steps, written by 1 rank", shown)
            self.assertRegex(shown, r"transformer\.h\.1\.attn\.c_attn\.weight +BF16 \[32, 96\] +6144")
            self.assertIn("rank_00000.safetensors", shown)
        self.assertIn("checkpoints, the newest first: step_00000002 step_00000001", self.sound(self.saved))
        for path in (self.space.output, self.space.output / "model.safetensors"):
            self.assertIn("[32, 96]", self.sound(path, "--verify"))

    def test_says_why_something_is_not(self) -> None:
        checkpoint = self.saved / "step_00000002"
        file = checkpoint / "v.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        self.sound(self.saved)  # by its headers
        for changed, words, reason in ((None, ["--verify"], "checksum"), (whole[:-1], [], "bytes")):
            if changed is not None:
                file.write_bytes(changed)
            result = self.inspect(checkpoint, *words)
            self.assertEqual(result.returncode, 1)
            self.assertIn("v.safetensors", result.stderr)
            self.assertIn(reason, result.stderr)
        for path in (file, self.space.path / "none", self.space.path / "text.txt", self.space.path):
            self.assertEqual(self.inspect(path).returncode, 1, path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
