#!/usr/bin/env python3
"""Times steps of GPT-2 small's shape with everything on NVMe beside what the disk needs for their bytes, at the
speeds that it has right before and after each round, and writes both as Markdown.

    bench/step_bound.py --nvme /mnt/nvme --output docs/results/step_bound.md
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any, Dict, List

import report
from programs import DiskSpeeds, Programs, command_line, disk_speeds

IN_MEMORY = "memory-fused"
WANTED = 1.2


@dataclasses.dataclass(frozen=True)
class Round:
    before: DiskSpeeds
    after: DiskSpeeds
    contestants: Dict[str, Dict[str, Any]]  # of step_benchmark's JSON, by name

    def seconds(self, name: str) -> float:
        return self.contestants[name]["median_step_seconds"]

    def bytes_of(self, name: str, hop: str) -> int:
        return statistics.median(step["hops"][hop]["bytes"] for step in self.contestants[name]["steps"])

    def disk_seconds(self, name: str) -> float:
        """The least time for the step's bytes: the mean of what both measurements of the disk say."""
        read, written = self.bytes_of(name, "fetch"), self.bytes_of(name, "flush")
        return statistics.mean(disk.seconds(read, written) for disk in (self.before, self.after))


def measure(programs: Programs, options: argparse.Namespace) -> List[Round]:
    rounds = []
    speeds = disk_speeds(programs)
    with tempfile.TemporaryDirectory() as space:
        record = pathlib.Path(space) / "steps.json"
        for _ in range(options.rounds):
            programs.output_of(
                "step_benchmark", "--nvme", programs.nvme, "--rounds", 1, "--steps", options.steps, "--warm-up", 2,
                "--host", options.host, "--device", options.device, "--json", record,
                *(f"--only={name}" for name in [IN_MEMORY, "host", "nvme", "nvme-early"]),
            )  # fmt: skip
            contestants = {each["contestant"]: each for each in json.loads(record.read_text())}
            before, speeds = speeds, disk_speeds(programs)
            rounds.append(Round(before, speeds, contestants))
            print(" ".join(f"{name} {rounds[-1].seconds(name):.3f}" for name in contestants), file=sys.stderr)
    return rounds


def median_of(rounds: List[Round], ratio: Any) -> str:
    ratios = [ratio(each) for each in rounds]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def row(rounds: List[Round], name: str) -> str:
    contestant = rounds[0].contestants[name]
    on_disk = rounds[0].bytes_of(name, "fetch") > 0 if name != IN_MEMORY else False
    least = median_of(rounds, lambda each: each.seconds(name) / each.disk_seconds(name)) if on_disk else ""
    moved = [f"{rounds[0].bytes_of(name, hop) / 1e9:.2f}" if on_disk else "" for hop in ("fetch", "flush")]
    peak = max(each.contestants[name]["peak_rss_bytes"] for each in rounds) / 2**20
    return (
        f"| {name}: {contestant['description']} | {statistics.median(each.seconds(name) for each in rounds):.3f} "
        f"| {median_of(rounds, lambda each: each.seconds(name) / each.seconds(IN_MEMORY))} | {least} "
        f"| {moved[0]} | {moved[1]} | {peak:.0f} MiB |"
    )


def page(options: argparse.Namespace, where: str, rounds: List[Round]) -> str:
    command = (
        f"OMP_WAIT_POLICY=PASSIVE bench/step_bound.py --nvme DIR --rounds {options.rounds} --steps {options.steps} "
        f"--host {options.host} --device {options.device}"
    )
    return "\n".join(
        [
            "# A step beside what the disk needs for its bytes",
            "",
            "GPT-2 small's shape (124 M parameters), 128 tokens a step, one micro-batch, bf16, clipping at 1.0 (but for",
            f"nvme-early), fp32 moments. Budgets on NVMe: {options.host} (host) and {options.device} (device). {options.rounds} rounds of {options.steps} steps each,",
            "contestants in turns; the disk is measured before and after each round. Ratios are medians of the rounds' (least",
            f"to greatest). Wanted: at most {WANTED} times what the disk needs.",
            "",
            "| contestant | step, s | / memory-fused | / what the disk needs | read, GB | written, GB | peak RSS |",
            "|" + "---|" * 7,
            *(row(rounds, name) for name in rounds[0].contestants),
            "",
            *(f"- disk: {speeds}" for speeds in [rounds[0].before, *(each.after for each in rounds)]),
            *report.origin(where, command),
        ]
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--host", default="292MiB", help="host budget on NVMe")
    parser.add_argument("--device", default="91MiB", help="device budget on NVMe")
    return parser


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> str:
    return page(options, where, measure(programs, options))


if __name__ == "__main__":
    report.run(parser(), measured_page)
