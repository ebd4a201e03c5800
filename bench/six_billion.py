#!/usr/bin/env python3
"""Trains 5.85 B parameters (28 layers, width 4096) from random weights within 8 GiB of process memory, and
writes every step beside its bound as Markdown.

    bench/six_billion.py --nvme /mnt/nvme --output docs/results/six_billion.md

Everything on NVMe: bf16 weights, 24-bit masters and 8-bit moments, 5 bytes a parameter, and gradients that have
no room in host memory. Takes up to 41 GB of the disk while it runs. The disk is measured before
each step and after it, while the run stands still; a step's bound follows from these speeds and from the step's
own bytes and arithmetic.
"""

import argparse
import dataclasses
import pathlib
import statistics
from typing import Any, Dict, List

import report
from programs import DiskSpeeds, Programs, command_line, disk_speeds
from training import Training, all_on_nvme, gpt2, train

LAYERS, WIDTH, PARAMETERS = 28, 4096, 5_848_883_200
WARM_UP = 2  # steps: the order of units is recorded, then followed
WANTED_RATIO = 1.25
WANTED_RSS = 8 << 30
PLACED_BYTES_PER_PARAMETER = 3  # weight and master; moments begin as zeros that are not written


@dataclasses.dataclass(frozen=True)
class Step:
    """A step beside what it cannot be faster than."""

    record: Dict[str, Any]
    disk: DiskSpeeds

    @property
    def seconds(self) -> float:
        return self.record["step_seconds"]

    @property
    def disk_seconds(self) -> float:
        return self.disk.seconds(self.record["read_bytes"], self.record["written_bytes"])

    @property
    def compute_seconds(self) -> float:
        return self.record["hops"]["compute"]["busy_seconds"]

    @property
    def ratio(self) -> float:
        return self.seconds / max(self.disk_seconds, self.compute_seconds)

    def row(self) -> str:
        record = self.record
        return (
            f"| {record['step']} | {self.seconds:.1f} | {record['read_bytes'] / 1e9:.1f} "
            f"| {record['written_bytes'] / 1e9:.1f} "
            f"| {(record['read_bytes'] + record['written_bytes']) / 1e9 / self.seconds:.2f} "
            f"| {self.disk_seconds:.1f} | {self.compute_seconds:.1f} | **{self.ratio:.2f}** "
            f"| {self.disk} |"
        )


def mean(speeds: List[DiskSpeeds]) -> DiskSpeeds:
    return DiskSpeeds(*(statistics.mean(getattr(one, field.name) for one in speeds)
                        for field in dataclasses.fields(DiskSpeeds)))  # fmt: skip


def hop_rows(steps: List[Step]) -> List[str]:
    rows = []
    for hop in steps[0].record["hops"]:
        busy, moved = (statistics.median(step.record["hops"][hop][key] for step in steps)
                       for key in ("busy_seconds", "bytes"))  # fmt: skip
        rows.append(f"| {hop} | {moved / 1e9:.1f} | {busy:.1f} |")
    return rows


def placement(run: Training, before: DiskSpeeds) -> str:
    counted = PLACED_BYTES_PER_PARAMETER * PARAMETERS
    speed = counted / run.placement_seconds
    return (
        f"**Initial placement: {run.placement_seconds:.1f} s for {counted / 1e9:.1f} GB, {speed / 1e9:.2f} GB/s: "
        f"{speed / before.write:.2f} of the disk's {before.write / 1e9:.2f} GB/s of writing.** Wanted: the disk's speed. "
        f"By then the process had written {run.placement_bytes / 1e9:.1f} GB."
    )


def page(options: argparse.Namespace, where: str, run: Training, speeds: List[DiskSpeeds]) -> str:
    steps = [Step(record, mean([*around])) for record, around in zip(run.steps, zip(speeds, speeds[1:]))]
    steady = steps[WARM_UP:]
    ratios = [step.ratio for step in steady]
    command = (
        f"bench/six_billion.py --nvme DIR --steps {options.steps} --tokens {options.tokens} "
        f"--host {options.host} --device {options.device}{' --under-backward' if options.under_backward else ''}"
    )
    step = "steps under backward" if options.under_backward else "clipping at 1.0"
    return "\n".join(
        [
            "# 5.85 billion parameters in 8 GiB",
            "",
            "28 layers, width 4096, vocabulary 50304, random weights; bf16, AdamW with 8-bit moments and 24-bit masters,",
            f"{step}, recomputation, {options.tokens} tokens a step; everything on NVMe, budgets of {options.host} (host) and "
            f"{options.device} (device).",
            "",
            f"**Steps take {min(ratios):.2f} to {max(ratios):.2f} times their bound (median {statistics.median(ratios):.2f}).** "
            f"Wanted: each at most {WANTED_RATIO}.",
            f"**Peak memory of the process: {run.peak_rss_bytes / 2**30:.2f} GiB resident.** Wanted: at most {WANTED_RSS >> 30}.",
            placement(run, speeds[0]),
            "",
            "| step | s | read, GB | written, GB | GB/s | the disk needs, s | arithmetic, s | step / bound "
            "| the disk around it |",
            "|" + "---|" * 9,
            *(step.row() for step in steps),
            "",
            f"The first {WARM_UP} steps are not counted above: in the first the order of units is recorded, and no update is under "
            "way beside it.",
            "The bound is the longer of both: the time for the step's own bytes at the disk's speeds, and the time that forward",
            "and backward computed in that step. The disk's speeds are ds_nvme_bench's, means of right before the step and right",
            "after it. Meanwhile the run is stopped, and what it had sent to the disk is done; that time is not the step's.",
            "",
            "| hop, medians of a step | moved, GB | busy, s |",
            "|---|---|---|",
            *hop_rows(steady),
            "",
            *report.origin(where, command),
        ]
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=4, help="that count")
    parser.add_argument("--tokens", type=int, default=128, help="of a step")
    parser.add_argument("--host", default="4608MiB", help="budget")
    parser.add_argument("--device", default="2GiB", help="budget")
    parser.add_argument("--under-backward", action="store_true", help="update under backward, without clipping")
    parser.add_argument("--log", type=pathlib.Path, metavar="FILE", help="what the run printed")
    return parser


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> str:
    config = all_on_nvme(
        programs.nvme, budget={"host": options.host, "device": options.device},
        states={"moments": "int8", "master": "24bit"}, step_under_backward=options.under_backward,
    )  # fmt: skip
    if options.under_backward:
        config["gradient_clipping"] = 0.0
    speeds: List[DiskSpeeds] = []

    def look_at_disk() -> None:
        speeds.append(disk_speeds(programs, size="2GiB", seconds=3))

    look_at_disk()
    run = train(
        programs, gpt2(LAYERS, WIDTH), config, tokens=options.tokens, steps=WARM_UP + options.steps, log=options.log,
        between=look_at_disk,
    )  # fmt: skip
    look_at_disk()
    return page(options, where, run, speeds)


if __name__ == "__main__":
    report.run(parser(), measured_page)
