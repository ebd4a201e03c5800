"""`tune` and `plan` run as users run them: what they refuse, and what is left of them.

Usage: tune_and_plan_test.py PROGRAM
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest
from typing import Any

import program
from program import DONE, FAILED, INTERRUPTED, USAGE

TINY = ["--size=8M", "--runtime=1"]
CONFIG = '{"train_batch_size": 8,  "aio": {"block_size": 4096}}\n'


class TuneAndPlan(program.ProgramTest):
    def refused(self, code: int, words: list, *arguments: Any, **options: Any) -> None:
        """One line, no result, and nothing was written: not even a file to measure in."""
        before = sorted(self.space.iterdir())
        result = self.bench(*arguments, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("ds_nvme_bench: "), result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(sorted(self.space.iterdir()), before)
        self.assertEqual(list(self.disk.iterdir()), [])

    def tune_refused(self, code: int, words: list, *arguments: Any) -> None:
        # The size would take minutes to write: what is refused is refused before.
        self.refused(code, words, "tune", self.disk, "--size=20G", *arguments)

    # ---- tune: the command line ------------------------------------------------------------------

    def test_no_directory(self) -> None:
        self.refused(USAGE, ["directory"], "tune")
        self.refused(USAGE, ["no/such", "does not exist"], "tune", "no/such")
        self.refused(FAILED, ["/proc"], "tune", "/proc", *TINY)

    def test_values(self) -> None:
        for words, argument in [
            (["--engine", "uring", "io_uring"], "--engine=uring"),
            (["--engine", "null"], "--engine=null"),
            (["--runtime"], "--runtime=0"),
            (["--runtime", "-5"], "--runtime=-5"),
            (["--runtime", "soon"], "--runtime=soon"),
            (["--timeout"], "--timeout=0"),
            (["--format", "json"], "--format=csv"),
            (["--rw"], "--rw=read"),
        ]:
            with self.subTest(argument=argument):
                self.tune_refused(USAGE, words, argument)

    def test_files_too_small_for_any_setting(self) -> None:
        self.refused(USAGE, ["--size"], "tune", self.disk, "--size=64K")

    def test_a_size_beyond_what_is_free(self) -> None:
        self.refused(FAILED, [str(self.disk), "free"], "tune", self.disk, "--size=1000000GiB")

    @unittest.skipIf(os.geteuid() == 0, "root may write anywhere")
    def test_a_directory_that_is_read_only(self) -> None:
        self.disk.chmod(0o500)
        self.refused(FAILED, [str(self.disk), "EACCES"], "tune", self.disk, *TINY)

    @unittest.skipIf(os.geteuid() != 0, "only root may mount")
    def test_a_file_system_that_is_full_or_read_only(self) -> None:
        options = ["tune", self.disk, "--size=8M", "--runtime=1"]
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "none", self.disk],
                                 capture_output=True, text=True)
        if mounted.returncode != 0:
            self.skipTest(mounted.stderr)
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.disk], check=True)
        self.refused(FAILED, ["ENOSPC", "free"], *options)
        result = self.bench("plan", "--params=7B", "--bandwidth-read=7", "--bandwidth-write=5",
                            f"--output={self.disk}/plan")
        self.assertEqual(result.returncode, DONE, result.stderr)
        (self.disk / "plan").unlink()
        subprocess.run(["mount", "-o", "remount,ro", self.disk], check=True)
        self.refused(FAILED, ["EROFS"], *options)

    # ---- tune: what it writes --------------------------------------------------------------------

    def test_a_config_that_cannot_be_used(self) -> None:
        refused = self.space / "refused.json"
        for text, words in (('{"aioo": {}}', ["aioo"]), ("{", ["refused.json"]),
                            ('{"aio": 5}', ["aio"])):
            with self.subTest(config=text):
                refused.write_text(text)
                self.tune_refused(USAGE, words, f"--write-config={refused}")
                self.assertEqual(refused.read_text(), text)
        self.tune_refused(FAILED, ["no/such"], "--write-config=no/such/config.json")
        self.tune_refused(FAILED, ["/proc"], "--write-config=/proc/config.json")
        self.tune_refused(FAILED, [str(self.space)], f"--write-config={self.space}")

    def test_outputs_that_cannot_be_written(self) -> None:
        self.tune_refused(FAILED, ["no/such/page"], "--report=no/such/page")
        self.tune_refused(FAILED, ["no/such/file"], "--output=no/such/file")

    def test_a_tuning_writes_the_config_and_the_page(self) -> None:
        config = self.space / "config.json"
        config.write_text(CONFIG)
        result = self.bench("tune", self.disk, "--size=64M", "--runtime=2", "--engine=threads",
                            "--format=json", "--report=page.html", f"--write-config={config}")
        self.assertEqual(result.returncode, DONE, result.stderr)
        tuned = json.loads(result.stdout)
        written = json.loads(config.read_text())
        self.assertEqual(written["aio"], tuned["aio"])
        self.assertEqual(written["strata"], {"io": "threads"})
        self.assertIn("<svg", (self.space / "page.html").read_text())
        self.assertEqual(sorted(path.name for path in self.space.iterdir()),
                         ["config.json", "disk", "page.html"])
        self.assertEqual(list(self.disk.iterdir()), [])
        (self.space / "tuned.json").write_text(result.stdout)
        planned = self.bench("plan", "--params=7B", "--from=tuned.json", "--format=json")
        self.assertEqual(planned.returncode, DONE, planned.stderr)
        self.assertAlmostEqual(json.loads(planned.stdout)["speeds"]["read_bytes_per_second"],
                               tuned["chosen"]["read_bytes_per_second"], delta=1)

    # ---- tune: signals ---------------------------------------------------------------------------

    def test_a_signal_during_the_search_shows_what_was_measured(self) -> None:
        config = self.space / "config.json"
        config.write_text(CONFIG)
        for number, style in ((signal.SIGINT, "json"), (signal.SIGTERM, "table")):
            with self.subTest(signal=number):
                process = self.start("tune", self.disk, "--size=64M", "--runtime=60",
                                     f"--format={style}", "--report=page.html",
                                     f"--write-config={config}")
                said = self.read_until(process, "lattice")  # the first measurements are made
                process.send_signal(number)
                output, error = process.communicate(timeout=60)
                error = said + error
                self.assertEqual(process.returncode, INTERRUPTED, error)
                self.assertIn(number.name, error)
                if style == "json":
                    partial = json.loads(output)
                    self.assertGreater(len(partial["points"]), 0)
                    self.assertIn(number.name, partial["ended"])
                    self.assertNotIn("aio", partial)
                else:
                    self.assertIn("best so far", output)
                self.assertEqual(config.read_text(), CONFIG)
                self.assertEqual(sorted(path.name for path in self.space.iterdir()),
                                 ["config.json", "disk"])
                self.assertEqual(list(self.disk.iterdir()), [])

    # ---- plan ------------------------------------------------------------------------------------

    def test_a_plan_needs_a_model_and_a_disk(self) -> None:
        speeds = ["--bandwidth-read=7", "--bandwidth-write=5"]
        self.refused(USAGE, ["--params"], "plan", *speeds)
        for text in ("many", "0", "-7B", "7X", "", "1e400", "nan"):
            with self.subTest(params=text):
                self.refused(USAGE, ["--params"], "plan", *speeds, f"--params={text}")
        plan = ["plan", "--params=7B"]
        self.refused(USAGE, ["--from", "--bandwidth-read"], *plan)
        self.refused(USAGE, ["--bandwidth-write"], *plan, "--bandwidth-read=7")
        self.refused(USAGE, ["one way"], *plan, *speeds, self.disk)
        self.refused(USAGE, ["no/such", "does not exist"], *plan, "no/such")
        for option in ("--bandwidth-read=0", "--bandwidth-read=fast", "--mu=2", "--mu=x",
                       "--drives=-1", "--tbw=0", "--tbw=some", "--flops=0", "--flops=none",
                       "--format=csv"):
            with self.subTest(option=option):
                self.refused(USAGE, [option.split("=")[0]], *plan, *speeds, option)
        self.refused(FAILED, ["no/such"], *plan, *speeds, "--output=no/such/plan")

    def test_a_plan_from_a_file_that_is_no_result(self) -> None:
        self.refused(FAILED, ["no/such"], "plan", "--params=7B", "--from=no/such")
        self.refused(FAILED, [str(self.disk)], "plan", "--params=7B", f"--from={self.disk}")
        file = self.space / "file.json"
        for text in ("", "words", "[]", "{}", '{"jobs": []}', '{"jobs": 3}', '{"chosen": {}}',
                     '{"chosen": {"read_bytes_per_second": "x"}}', '{"jobs": [{}]}'):
            with self.subTest(text=text):
                file.write_text(text)
                self.refused(FAILED, ["file.json"], "plan", "--params=7B", f"--from={file}")


if __name__ == "__main__":
    program.ProgramTest.program = str(pathlib.Path(sys.argv.pop()).resolve())
    unittest.main(verbosity=2)
