"""`strata plan --machine here`, run as users run it.

Usage: machine_here_test.py PROGRAM
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop()
SHAPE = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 32, "n_embd": 64, "n_layer": 3, "n_head": 2}


class MachineHere(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="strata_plan_")
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name)
        (self.path / "nvme").mkdir()
        (self.path / "model.json").write_text(json.dumps(SHAPE))

    def command(self, *arguments: str) -> list:
        return [PROGRAM, "plan", "--model-config", "model.json", "--machine", "here", *arguments]

    def plan(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), cwd=self.path, capture_output=True, text=True, timeout=240, check=False)

    def left(self) -> list:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))

    def test_measures_forward_and_backward_and_writes_a_file_that_can_be_given_back(self) -> None:
        first = self.plan("--save-machine", "machine.json", "--json")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertIn("measuring this machine", first.stderr)
        answer = json.loads(first.stdout)
        compute = answer["machine"]["device.compute"]
        self.assertGreater(compute["value"], 1e6)
        self.assertIn("3 blocks of width 64", compute["source"])
        again = subprocess.run(
            [PROGRAM, "plan", "--model-config", "model.json", "--machine", "machine.json", "--json"],
            cwd=self.path, capture_output=True, text=True, timeout=240, check=False)
        self.assertEqual(json.loads(again.stdout), answer)

    def test_an_interrupted_measurement_leaves_nothing(self) -> None:
        before = self.left()
        process = subprocess.Popen(
            self.command("--nvme", "nvme", "--save-machine", "machine.json"), cwd=self.path,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.assertIn("measuring", process.stderr.readline())
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=60), 130)
        process.stderr.close()
        self.assertEqual(self.left(), before)

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_a_directory_that_cannot_be_written_to_is_refused(self) -> None:
        (self.path / "nvme").chmod(0o500)
        result = self.plan("--nvme", "nvme")
        self.assertEqual(result.returncode, 2)
        self.assertIn("nvme", result.stderr)

    def test_a_directory_that_is_not_there_is_refused(self) -> None:
        result = self.plan("--nvme", "no/such", "--save-machine", "machine.json")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("no/such", result.stderr)
        self.assertNotIn("machine.json", self.left())


if __name__ == "__main__":
    unittest.main()
