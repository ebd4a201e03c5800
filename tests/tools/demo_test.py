"""Holds what tools/demo.sh shows a newcomer: what there is to wait for, and what to compare.
Usage: demo_test.py REPOSITORY"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(sys.argv.pop())


class Demo(unittest.TestCase):
    """The demo in a copy where setting up, building and training only say that they began."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.make_program("tools/setup.sh", "echo setting up")
        for name in ("cmake", "ninja"):
            self.make_program(f"programs/{name}", f"echo {name}")
        for name in ("tools/demo.sh", "tools/demo_text.txt"):
            shutil.copy(REPOSITORY / name, self.directory / "tools")

    def make_program(self, name: str, body: str):
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)

    def lines_on(self, cores: int, *arguments: str) -> list[str]:
        self.make_program("programs/nproc", f"echo {cores}")
        path = f"{self.directory / 'programs'}:{os.environ['PATH']}"
        run = subprocess.run(["bash", self.directory / "tools/demo.sh", *arguments],
                             cwd=self.directory, env={**os.environ, "PATH": path},
                             capture_output=True, text=True, timeout=60)
        return run.stdout.splitlines()

    def test_first_build_is_said_to_take_how_long_before_anything_begins(self):
        for cores, minutes in ((1, 10), (2, 5), (64, 2)):
            first, second = self.lines_on(cores)[:2]
            self.assertIn(f"the first build takes about {minutes} minutes on {cores} cores", first)
            self.assertEqual(second, "setting up")

    def test_first_build_is_not_spoken_of_when_it_has_been_done(self):
        self.make_program("build/release/bin/strata", "echo training")
        lines = self.lines_on(2)
        self.assertEqual(lines[0], "setting up")
        self.assertIn("training", lines)

    def asked_for(self, *arguments: str) -> tuple[dict[str, str], list[str]]:
        """The options that the training gets, and the lines that follow it."""
        self.make_program("build/release/bin/strata", "shift; printf '%s\\0' \"$@\" >asked; echo trained")
        lines = self.lines_on(2, *arguments)
        words = (self.directory / "asked").read_text().split("\0")[:-1]
        return dict(zip(words[::2], words[1::2])), lines[lines.index("trained") + 1:]

    def test_what_the_model_writes_stands_above_the_part_of_the_verse_that_it_was_not_given(self):
        verse = (REPOSITORY / "tools/demo_text.txt").read_text()
        asked, last_lines = self.asked_for()
        rest = verse.removeprefix(asked["--prompt"])
        self.assertNotIn(rest, ("", verse))
        self.assertEqual((asked["--sample"], asked["--temperature"]), (str(len(rest)), "0"))
        self.assertEqual(last_lines[1:], rest.splitlines())

    def test_the_verse_is_one_sequence_so_that_every_step_learns_all_of_it(self):
        asked, _ = self.asked_for()
        size = (REPOSITORY / asked["--data"]).stat().st_size
        self.assertEqual(asked["--seq-len"], str(size - 1))
        self.assertLessEqual(size - 1, 256, "the context of gpt-lite")

    def test_a_text_of_ones_own_is_learnt_in_sequences_that_fit_the_context(self):
        for size, sequence in ((4, 3), (257, 256), (10000, 256)):
            text = self.directory / "text"
            text.write_text("x" * size)
            asked, last_lines = self.asked_for("--data", "text")
            self.assertEqual((asked["--data"], asked["--seq-len"]), (str(text), str(sequence)))
            self.assertNotIn("--prompt", asked)
            self.assertEqual(last_lines, [])


if __name__ == "__main__":
    unittest.main()
