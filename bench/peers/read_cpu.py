#!/usr/bin/env python3
"""CPU time of a gigabyte read, fio beside `ds_nvme_bench run` at equal settings, in turns.

    bench/peers/read_cpu.py DIR --threads 2 --seconds 20 --rounds 4

fio counts the user and the system time of each thread in whole milliseconds, rounded down, so that
short turns flatter it. Huge pages have to be set aside: `sysctl vm.nr_hugepages=384`. The file in
DIR is removed at the end.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import List, Tuple

ROOT = pathlib.Path(__file__).resolve().parents[2]


def parse_arguments(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="on the disk to read from")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "build/release/bin", metavar="DIR")
    parser.add_argument("--fio", default="fio")
    parser.add_argument("--gib", type=int, default=2, help="size of the file")
    parser.add_argument("--bs", default="4M")
    parser.add_argument("--iodepth", default="32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=20, help="of a turn")
    parser.add_argument("--rounds", type=int, default=4)
    return parser.parse_args(arguments)


def output_of(command: List[object]) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def fio(options: argparse.Namespace, file: pathlib.Path, *, write: bool) -> Tuple[float, float]:
    """Gigabytes a second, and milliseconds of CPU for a gigabyte."""
    part = (options.gib << 30) // options.threads
    output = output_of([
        options.fio, "--name=peer", f"--filename={file}", f"--rw={'write' if write else 'read'}",
        f"--bs={options.bs}", f"--iodepth={options.iodepth}", f"--numjobs={options.threads}",
        "--ioengine=io_uring", "--fixedbufs", "--registerfiles", f"--size={part}",
        f"--offset_increment={part}", "--direct=1", "--iomem=mmaphuge", "--thread",
        "--group_reporting", "--norandommap", "--output-format=json",
        *([] if write else ["--time_based", f"--runtime={options.seconds}s"]),
    ])  # fmt: skip
    job = json.loads(output[output.index("{"):])["jobs"][0]
    direction = job["write" if write else "read"]
    cpu_ms = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"]
    return direction["bw_bytes"] / 1e9, cpu_ms / (direction["io_bytes"] / 1e9)


def strata(options: argparse.Namespace) -> Tuple[float, float]:
    result = json.loads(output_of([
        options.programs / "ds_nvme_bench", "run", options.directory, "--rw=read", f"--bs={options.bs}",
        f"--iodepth={options.iodepth}", f"--threads={options.threads}", "--engine=io_uring",
        f"--size={options.gib}GiB", f"--runtime={options.seconds}", "--format=json",
    ]))  # fmt: skip
    job = result["jobs"][0]
    return job["read"]["bw_bytes"] / 1e9, job["strata"]["cpu_seconds_per_gigabyte"] * 1e3


def main(arguments: List[str]) -> None:
    options = parse_arguments(arguments)
    ratios = []
    print("| fio GB/s | CPU ms per GB | Strata GB/s | CPU ms per GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        file = pathlib.Path(scratch) / "file"
        fio(options, file, write=True)
        for _ in range(options.rounds):
            theirs, ours = fio(options, file, write=False), strata(options)
            ratios.append(ours[1] / theirs[1])
            print(f"| {theirs[0]:.2f} | {theirs[1]:.2f} | {ours[0]:.2f} | {ours[1]:.2f} |", flush=True)
    print(f"\nCPU time of Strata / fio, median of the rounds: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
