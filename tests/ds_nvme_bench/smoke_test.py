"""The program run as users run it: what it measures and how it shows it.

Usage: smoke_test.py PROGRAM
"""

import csv
import io
import json
import os
import pathlib
import signal
import sys
import unittest
from typing import Any

import program
from program import DONE, INTERRUPTED, QUICK

FAST = ["--size=64M", "--runtime=100ms", "--ramp-time=0"]


class Smoke(program.ProgramTest):
    def run_bench(self, *words: Any) -> str:
        result = self.bench(*words)
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assertEqual(result.stderr, "", "nothing but results, when stderr is no terminal")
        self.assertEqual(list(self.disk.iterdir()), [])
        return result.stdout

    def test_directories_alone_give_an_overview_for_a_model(self) -> None:
        text = self.run_bench(self.disk, *FAST)
        for line in ("sequential read", "sequential write", "read and write at once",
                     "4 KiB random read", "training step", "70 billion"):
            self.assertIn(line, text)
        command = [line for line in text.splitlines() if line.startswith("best for a step: ")]
        words = command[0].removeprefix("best for a step: ds_nvme_bench ").split()
        self.run_bench(*words, *FAST)

    def test_the_overview_as_json_has_a_job_for_each_line(self) -> None:
        jobs = json.loads(self.run_bench(self.disk, *FAST, "--format=json"))["jobs"]
        self.assertEqual([job["jobname"] for job in jobs],
                         ["read", "write", "randread", "randread", "readwrite", "trainstep"])

    def test_a_report_is_a_page_with_every_measurement(self) -> None:
        self.run_bench(self.disk, *FAST, "--report=page.html")
        page = (self.space / "page.html").read_text()
        self.assertTrue(page.startswith("<!doctype html>") and page.endswith("</html>\n"))
        self.assertIn("21 measurements", page, "15 trials and the 6 of the overview")
        self.assertIn("<svg", page)
        self.run_bench("run", self.disk, *QUICK, "--rw=randrw", "--bs=64k", "--report=page.html")
        self.assertIn("randrw", (self.space / "page.html").read_text())
        self.assertEqual(sorted(path.name for path in self.space.iterdir()), ["disk", "page.html"])

    def test_an_interrupted_overview_shows_what_it_has(self) -> None:
        process, terminal = self.start_measuring(self.disk, "--size=16M", "--format=json",
                                                 "--runtime=500ms")
        process.send_signal(signal.SIGINT)
        output, error = self.end(process, terminal)
        self.assertEqual(process.returncode, INTERRUPTED, error)
        json.loads(output)

    def test_every_format_and_workload(self) -> None:
        for workload in ("read", "write", "readwrite", "randread", "randwrite", "randrw"):
            text = self.run_bench("run", self.disk, *QUICK, f"--rw={workload}", "--bs=64k",
                                  "--format=csv", "--verify")
            rows = list(csv.DictReader(io.StringIO(text)))
            self.assertEqual({row["direction"] for row in rows},
                             {"read"} if workload.endswith("read") else
                             {"write"} if workload.endswith("write") and "read" not in workload
                             else {"read", "write"})
            self.assertTrue(all(row["errors"] == "0" for row in rows))
        for style in ("table", "jsonl", "md"):
            self.assertIn("randrw", self.run_bench("run", self.disk, *QUICK, "--rw=randrw",
                                                   "--bs=4k", f"--format={style}"))

    def test_what_a_closed_stderr_would_get_is_not_in_the_result(self) -> None:
        result = self.bench("tune", self.disk, "--size=64M", "--runtime=400ms", "--format=json",
                            "--output=result.json", preexec_fn=lambda: os.close(2))
        self.assertEqual(result.returncode, DONE)
        json.loads((self.space / "result.json").read_text())

    def test_several_directories_and_threads(self) -> None:
        other = self.space / "other"
        other.mkdir()
        job = json.loads(self.run_bench("run", self.disk, other, *QUICK, "--threads=2", "--bs=64k",
                                        "--format=json", "--rw=trainstep"))["jobs"][0]
        self.assertEqual(len(job["strata"]["disks"]), 2)
        self.assertGreater(job["write"]["total_ios"], 0)

    def test_a_terminal_sees_a_line_as_it_goes(self) -> None:
        process, terminal = self.start_in_terminal("run", self.disk, "--size=8M", "--runtime=2")
        _, shown = self.end(process, terminal)
        self.assertEqual(process.returncode, DONE, shown)
        self.assertIn("GB/s", shown)
        self.assertIn("eta", shown)
        self.assertTrue(shown.endswith("\r\x1b[K"), "the line is gone at the end")


if __name__ == "__main__":
    program.ProgramTest.program = str(pathlib.Path(sys.argv.pop()).resolve())
    unittest.main(verbosity=2)
