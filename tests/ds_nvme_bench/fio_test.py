"""What ds_nvme_bench says, fio says: its JSON has fio's fields, and its fio command lines run.

Usage: fio_test.py PROGRAM. Exits with 77 where fio is not installed.
"""

import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import unittest
from typing import Any

import program
from program import DONE, QUICK

# What fio counts and we do not: distributions of depth and latency, context switches, syncs.
NOT_OURS = {
    "jobs.sync", "jobs.ctx", "jobs.majf", "jobs.minf", "jobs.iodepth_level", "jobs.iodepth_submit",
    "jobs.iodepth_complete", "jobs.latency_ns", "jobs.latency_us", "jobs.latency_ms",
    "jobs.latency_depth", "jobs.latency_target", "jobs.latency_percentile", "jobs.latency_window",
    "fio version",
}


def fields(value: Any, name: str = "") -> dict:
    """Every field of a JSON value, by its path, with the type of its value."""
    if isinstance(value, list):
        return fields(value[0], name) if value else {name: list}
    if not isinstance(value, dict):
        return {name: float if isinstance(value, (int, float)) else type(value)}
    found = {}
    for key, inner in value.items():
        found.update(fields(inner, f"{name}.{key}" if name else key))
    return found


class Fio(program.ProgramTest):
    def fio(self, command: str, *more: str) -> dict:
        result = subprocess.run([*shlex.split(command), "--output-format=json", *more],
                                cwd=self.space, capture_output=True, text=True, timeout=120,
                                check=False)
        self.assertEqual(result.returncode, 0, f"{command}\n{result.stderr}{result.stdout}")
        return json.loads(result.stdout[result.stdout.index("{"):])

    def run_bench(self, *words: Any) -> dict:
        result = self.bench("run", self.disk, *QUICK, "--format=json", *words)
        self.assertEqual(result.returncode, DONE, result.stderr)
        return json.loads(result.stdout)

    def test_every_field_of_fio_that_has_a_meaning_here(self) -> None:
        ours = self.run_bench("--rw=randrw", "--bs=64k")
        theirs = self.fio(ours["jobs"][0]["strata"]["fio_command"])
        our_fields = fields(ours)
        for name, kind in fields(theirs).items():
            if any(name == skipped or name.startswith(skipped + ".") for skipped in NOT_OURS):
                continue
            if name.startswith(("jobs.job options", "global options", "disk_util")):
                continue
            self.assertIn(name, our_fields)
            self.assertEqual(our_fields[name], kind, name)
        for entry in theirs.get("disk_util", []):
            if ours["disk_util"]:
                self.assertEqual(set(entry) - set(ours["disk_util"][0]), set())

    def test_figures_have_fios_units(self) -> None:
        """Both measure the same for a moment: no more than a factor of 20 may lie between them."""
        ours = self.run_bench("--rw=read", "--bs=64k", "--runtime=300ms")
        theirs = self.fio(ours["jobs"][0]["strata"]["fio_command"])
        for name in ("bw_bytes", "bw", "iops", "io_bytes", "io_kbytes", "total_ios", "runtime"):
            our, their = ours["jobs"][0]["read"][name], theirs["jobs"][0]["read"][name]
            self.assertGreater(our, their / 20, name)
            self.assertLess(our, their * 20, name)
        for name in ("clat_ns", "lat_ns"):
            our, their = ours["jobs"][0]["read"][name], theirs["jobs"][0]["read"][name]
            self.assertGreater(our["mean"], their["mean"] / 20)
            self.assertLess(our["mean"], their["mean"] * 20)

    def test_every_command_line_runs(self) -> None:
        other = self.space / "other disk:1"
        other.mkdir()
        for words in (["--rw=write", "--bs=4k", "--threads=2"],
                      ["--rw=trainstep", "--bs=64k"],
                      ["--rw=randwrite", "--bs=4k", "--direct=0", "--no-prepare"],
                      ["--rw=readwrite", "--bs=64k", "--engine=threads", "--iodepth=4"],
                      ["--rw=randread", "--bs=64k", "--threads=2", other],
                      ["--rw=read", "--bs=64k", "--engine=null"]):
            with self.subTest(words=words):
                command = self.run_bench(*words)["jobs"][0]["strata"]["fio_command"]
                job = self.fio(command)["jobs"][0]
                self.assertEqual(job["error"], 0)
                self.assertGreater(job["read"]["total_ios"] + job["write"]["total_ios"], 0)
                self.assertEqual(list(self.disk.iterdir()) + list(other.iterdir()), [])

    def test_a_plan_takes_what_fio_writes(self) -> None:
        """Two jobs that read at once, then one that writes; in each of fio's forms of output."""
        jobs = self.space / "jobs.fio"
        jobs.write_text(f"[global]\ndirectory={self.disk}\nsize=4M\nbs=64k\nunlink=1\n"
                        "rw=read\nioengine=psync\niodepth=4\n"  # of which fio says a note
                        "[reads]\nnumjobs=2\n[writes]\nstonewall\nrw=write\n")
        for words in (["json"], ["json+"], ["normal,json"], ["json", "--group_reporting"]):
            with self.subTest(words=words):
                output = self.space / "fio.json"
                with output.open("wb") as file:
                    subprocess.run(["fio", f"--output-format={words[0]}", *words[1:], jobs],
                                   stdout=file, stderr=file, timeout=120, check=True)
                text = output.read_text()
                found = json.JSONDecoder().raw_decode(text, text.index("\n{") + 1)[0]
                read, write = (sum(job[direction]["bw_bytes"] for job in found["jobs"])
                               for direction in ("read", "write"))
                planned = self.bench("plan", "--params=7B", f"--from={output}", "--format=json")
                self.assertEqual(planned.returncode, DONE, planned.stderr)
                self.assertEqual(planned.stderr, "")
                speeds = json.loads(planned.stdout)["speeds"]
                self.assertAlmostEqual(speeds["read_bytes_per_second"], read, delta=1)
                self.assertAlmostEqual(speeds["write_bytes_per_second"], write, delta=1)
                output.write_text("fio: io_u error on file x: Input/output error\n" + text)
                planned = self.bench("plan", "--params=7B", f"--from={output}")
                self.assertEqual(planned.returncode, DONE)
                self.assertIn("io_u error", planned.stderr)


if __name__ == "__main__":
    if shutil.which("fio") is None:
        print("fio is not installed")
        sys.exit(77)
    program.ProgramTest.program = str(pathlib.Path(sys.argv.pop()).resolve())
    unittest.main(verbosity=2)
