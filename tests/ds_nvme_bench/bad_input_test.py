"""Every bad input ends with one clear line, its exit code, no result and no file left behind.

Usage: bad_input_test.py PROGRAM
"""

import ctypes
import json
import os
import pathlib
import platform
import resource
import signal
import struct
import sys
import unittest
from typing import Any

import program
from program import DONE, FAILED, INTERRUPTED, QUICK, USAGE


class BadInput(program.ProgramTest):
    def refused(self, code: int, words: list, *arguments: Any, **options: Any) -> None:
        result = self.bench(*arguments, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("ds_nvme_bench: "), result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(list(self.disk.iterdir()), [])

    def run_refused(self, code: int, words: list, *arguments: Any, **options: Any) -> None:
        self.refused(code, words, "run", self.disk, *QUICK, *arguments, **options)

    # ---- command line --------------------------------------------------------------------------

    def test_no_directory(self) -> None:
        self.refused(USAGE, ["directory"])
        self.refused(USAGE, ["directory"], "run")
        self.refused(USAGE, ["no/such", "does not exist"], "run", "no/such")
        self.refused(USAGE, ["no/such", "does not exist"], "no/such")
        (self.space / "file").write_text("mine")
        self.refused(USAGE, ["file", "not a directory"], "run", self.space / "file")

    def test_options_before_the_command(self) -> None:
        self.refused(USAGE, ["--format", "run"], "--format=json", "run", self.disk)
        self.refused(USAGE, ["DIR", "run"], self.disk, "run", self.disk)

    def test_buffers_larger_than_memory(self) -> None:
        big = ["run", self.disk, "--size=1GiB", "--bs=4M", "--iodepth=4096", "--threads=256"]
        self.refused(USAGE, ["4096.0 GiB", "available"], *big)

    def test_plans_that_mean_nothing(self) -> None:
        speeds = ["--bandwidth-read=5", "--bandwidth-write=3"]
        self.refused(USAGE, ["--params", "1e15"], "plan", "--params=1e30", *speeds)
        self.refused(USAGE, ["--bandwidth-read"], "plan", "--params=7B", "--bandwidth-read=1e300", speeds[1])
        self.refused(USAGE, ["--mu"], "plan", "--params=7B", *speeds, "--mu=nan")
        self.refused(USAGE, ["--mu", "measured"], "plan", "--params=7B", self.disk, "--mu=0.5")
        self.refused(USAGE, ["--drives"], "plan", "--params=7B", *speeds, "--drives=0")
        self.refused(USAGE, ["/dev/zero", "device"], "plan", "--params=7B", "--from=/dev/zero")

    def test_files_that_take_no_config(self) -> None:
        fifo = self.space / "fifo"
        os.mkfifo(fifo)
        self.refused(USAGE, ["fifo", "regular"], "tune", self.disk, f"--write-config={fifo}")
        read_only = self.space / "config.json"
        read_only.write_text("{}")
        read_only.chmod(0o444)
        self.refused(FAILED, ["config.json", "read-only"], "tune", self.disk, f"--write-config={read_only}")
        twice = self.space / "twice.json"
        twice.write_text('{"\\u0061io": {}}')  # found out before anything is measured
        self.refused(USAGE, ["twice.json", "aio"], "tune", self.disk, f"--write-config={twice}")

    def test_a_result_beyond_the_limit_of_a_files_size(self) -> None:
        plan = ["plan", "--params=7B", "--bandwidth-read=5", "--bandwidth-write=3", "--format=json"]
        output = self.space / "plan.json"
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))  # noqa: E731
        self.refused(FAILED, ["plan.json", "EFBIG"], *plan, f"--output={output}", preexec_fn=limit)
        self.assertEqual([path.name for path in self.space.iterdir() if "plan" in path.name], [])

    def test_values(self) -> None:
        for words, argument in [
            (["--rw", "reed", "randread"], "--rw=reed"),
            (["--engine", "uring", "io_uring"], "--engine=uring"),
            (["--format", "xml", "jsonl"], "--format=xml"),
            (["--bs", "512"], "--bs=1000"),
            (["--bs", "512"], "--bs=0"),
            (["--bs", "lots"], "--bs=lots"),
            (["--bs", "16.0 MiB"], "--bs=16M"),
            (["--iodepth"], "--iodepth=0"),
            (["--iodepth", "4096"], "--iodepth=5000"),
            (["--iodepth", "many"], "--iodepth=many"),
            (["--iodepth", "too large"], "--iodepth=99999999999"),
            (["--threads"], "--threads=0"),
            (["--threads", "--size"], "--threads=9"),
            (["--direct", "yes"], "--direct=yes"),
            (["--runtime", "soon"], "--runtime=soon"),
            (["--runtime"], "--runtime=0"),
            (["--runtime"], "--runtime=0.3ms"),
            (["--ramp-time"], "--ramp-time=-1"),
            (["--size"], "--size=0"),
            (["--size"], "--size=-4G"),
            (["--sise"], "--sise=4G"),
            (["--timeout"], "--timeout=0"),
        ]:
            with self.subTest(argument=argument):
                self.run_refused(USAGE, words, argument)

    # ---- the disk --------------------------------------------------------------------------------

    def test_a_block_that_the_disk_does_not_take(self) -> None:
        # Most disks take 512 bytes; those that do not must say what they take.
        result = self.bench("run", self.disk, *QUICK, "--bs=512")
        if result.returncode != DONE:
            self.assertEqual(result.returncode, USAGE)
            self.assertIn("multiples of", result.stderr)

    def test_a_size_beyond_what_is_free(self) -> None:
        self.run_refused(FAILED, [str(self.disk), "free"], "--size=1000000GiB")

    def test_a_full_disk(self) -> None:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        self.run_refused(FAILED, [str(self.disk), "EFBIG"], preexec_fn=limit)

    @unittest.skipIf(os.geteuid() == 0, "root may write anywhere")
    def test_a_directory_that_is_read_only(self) -> None:
        self.disk.chmod(0o500)
        self.run_refused(FAILED, [str(self.disk), "EACCES"])

    def test_a_file_system_that_takes_no_files(self) -> None:
        self.refused(FAILED, ["/proc"], "run", "/proc", *QUICK)

    def test_a_directory_that_vanishes_while_it_is_measured(self) -> None:
        process, terminal = self.start_measuring("run", self.disk, "--size=8M", "--runtime=2")
        self.disk.rmdir()
        output, error = self.end(process, terminal)
        self.assertEqual(process.returncode, DONE, error)
        self.assertIn("GB/s", output)

    # ---- the engine ------------------------------------------------------------------------------

    def test_an_engine_that_the_kernel_denies(self) -> None:
        for engine, deny in (("io_uring", deny_io_uring), ("libaio", deny_libaio)):
            for command in ("run", "tune"):
                with self.subTest(engine=engine, command=command):
                    self.refused(FAILED, [engine, "EPERM"], command, self.disk, "--size=8M",
                                 f"--engine={engine}", preexec_fn=deny)

    def test_auto_says_what_it_took_instead_and_why(self) -> None:
        result = self.bench("run", self.disk, *QUICK, "--format=json", preexec_fn=deny_io_uring)
        self.assertEqual(result.returncode, DONE, result.stderr)
        engine = json.loads(result.stdout)["jobs"][0]["strata"]["engine"]
        self.assertIn("io_uring: EPERM", engine)

    # ---- the output ------------------------------------------------------------------------------

    def test_an_output_that_cannot_be_written(self) -> None:
        self.run_refused(FAILED, ["no/such/file"], "--output=no/such/file")
        self.run_refused(FAILED, [str(self.space)], f"--output={self.space}")
        before = sorted(self.space.iterdir())
        self.run_refused(USAGE, ["--bs"], "--bs=16M", "--output=result")
        self.assertEqual(sorted(self.space.iterdir()), before)

    def test_a_report_that_cannot_be_written(self) -> None:
        self.run_refused(FAILED, ["no/such/page"], "--report=no/such/page")
        self.refused(FAILED, ["no/such/page"], self.disk, "--report=no/such/page")

    def test_a_full_standard_output(self) -> None:
        with open("/dev/full", "w") as full:
            process = self.start("run", self.disk, *QUICK, stdout=full)
            error = process.stderr.read()
        self.assertEqual(process.wait(timeout=60), FAILED, error)
        self.assertIn("stdout", error)

    def test_an_output_appears_complete(self) -> None:
        result = self.bench("run", self.disk, *QUICK, "--format=json", "--output=result.json")
        self.assertEqual((result.returncode, result.stdout), (DONE, ""), result.stderr)
        json.loads((self.space / "result.json").read_text())
        self.assertEqual(sorted(path.name for path in self.space.iterdir()),
                         ["disk", "result.json"])

    # ---- signals ---------------------------------------------------------------------------------

    def test_a_signal_ends_the_run_with_what_was_measured(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                process, terminal = self.start_measuring("run", self.disk, "--size=8M",
                                                         "--runtime=60", "--format=json")
                self.assertEqual(list(self.disk.iterdir()), [], "a file with a name, while it runs")
                process.send_signal(number)
                output, error = self.end(process, terminal)
                self.assertEqual(process.returncode, INTERRUPTED, error)
                self.assertIn(number.name, error)
                self.assertGreater(json.loads(output)["jobs"][0]["read"]["total_ios"], 0)
                self.assertEqual(list(self.disk.iterdir()), [])

    def test_nothing_is_left_when_it_is_killed(self) -> None:
        process = self.start("run", self.disk, "--size=8M", "--runtime=60")
        self.wait_for_files(process)
        process.kill()
        process.wait(timeout=60)
        self.assertEqual(list(self.disk.iterdir()), [])

    def test_a_signal_while_the_files_are_written(self) -> None:
        for command in (["run"], ["tune"], ["plan", "--params=1B"], []):
            for number in (signal.SIGINT, signal.SIGTERM):
                with self.subTest(command=command, signal=number):
                    process = self.start(*command, self.disk, "--size=4G", "--output=result")
                    self.wait_for_files(process)
                    process.send_signal(number)
                    output, error = process.communicate(timeout=60)
                    self.assertEqual((process.returncode, output), (INTERRUPTED, ""), error)
                    self.assertEqual(len(error.splitlines()), 1, error)
                    self.assertIn(number.name, error)
                    self.assertEqual(list(self.space.iterdir()), [self.disk])
                    self.assertEqual(list(self.disk.iterdir()), [])


def deny_io_uring() -> None:
    deny(425)


def deny_libaio() -> None:
    deny(206 if platform.machine() == "x86_64" else 0)


def deny(system_call: int) -> None:
    """Has the kernel answer a system call with EPERM, as sandboxes do."""
    eperm = 1
    load, jump_if_equal, answer = 0x20, 0x15, 0x06  # of classic BPF
    program_bytes = b"".join(struct.pack("HBBI", *line) for line in [
        (load, 0, 0, 0),  # the number of the system call
        (jump_if_equal, 0, 1, system_call),
        (answer, 0, 0, 0x00050000 | eperm),
        (answer, 0, 0, 0x7FFF0000),  # allowed
    ])
    buffer = ctypes.create_string_buffer(program_bytes, len(program_bytes))
    filter_program = struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    libc.prctl(no_new_privileges, 1, 0, 0, 0)
    if libc.prctl(seccomp, filter_mode, filter_program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


if __name__ == "__main__":
    program.ProgramTest.program = str(pathlib.Path(sys.argv.pop()).resolve())
    unittest.main(verbosity=2)
