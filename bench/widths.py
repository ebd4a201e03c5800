#!/usr/bin/env python3
"""Trains GPT-2-like models of growing width with everything on NVMe under the same small budgets, and writes
what a step takes for each of them as Markdown.

    bench/widths.py --nvme /mnt/nvme --output docs/results/widths.md

Random weights, 8-bit moments and 24-bit masters: 5 bytes a parameter at rest, and 2 for its gradient. The
largest takes 41 GB of the disk while it runs. The disk is measured anew right before each of them.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
from typing import Any, Dict, List

import machine
import report
from programs import DiskSpeeds, Programs, add_arguments, disk_speeds
from training import all_on_nvme, gpt2, train

WARM_UP = 2  # steps: the order of units is recorded, then followed
FLAT = 0.15
BUDGET = {"host": "96MiB", "device": "512MiB"}
SHAPES = {"0.1B": (12, 768), "0.35B": (24, 1024), "0.8B": (36, 1280), "1.6B": (48, 1600), "3B": (32, 2688),
          "6B": (28, 4096)}  # fmt: skip


def parameters_of(name: str) -> int:
    """As GPT-2 counts them: blocks, two embeddings, the last norm; the head is tied."""
    layers, width = SHAPES[name]
    return layers * (12 * width * width + 13 * width) + (50304 + 1024 + 2) * width


def step_count(name: str, options: argparse.Namespace) -> int:
    """More of small models, whose short steps feel each swing of a disk that others share."""
    return max(options.steps, min(8, int(6e9 / parameters_of(name))))


@dataclasses.dataclass(frozen=True)
class Outcome:
    name: str
    disk: DiskSpeeds
    steps: List[Dict[str, Any]]
    peak_rss_bytes: int

    @property
    def parameters(self) -> int:
        return parameters_of(self.name)

    def median(self, key: str) -> float:
        return statistics.median(step[key] for step in self.steps)

    @property
    def seconds(self) -> float:
        return self.median("step_seconds")

    @property
    def nanoseconds_per_parameter(self) -> float:
        return self.seconds / self.parameters * 1e9

    @property
    def bytes_per_parameter(self) -> float:
        return (self.median("read_bytes") + self.median("written_bytes")) / self.parameters

    @property
    def bytes_per_second(self) -> float:
        return self.bytes_per_parameter * self.parameters / self.seconds

    @property
    def disk_seconds(self) -> float:
        """What the disk, as fast as it was measured, needs for a step's bytes."""
        return self.disk.seconds(self.median("read_bytes"), self.median("written_bytes"))

    @property
    def binds(self) -> str:
        return statistics.mode(step["binds"] for step in self.steps)

    def row(self) -> str:
        seconds = [step["step_seconds"] for step in self.steps]
        layers, width = SHAPES[self.name]
        return (
            f"| {self.parameters / 1e9:.3f} B ({layers} x {width}) "
            f"| {self.seconds:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) "
            f"| **{self.nanoseconds_per_parameter:.1f}** | {self.median('read_bytes') / 1e9:.2f} "
            f"| {self.median('written_bytes') / 1e9:.2f} | {self.bytes_per_parameter:.1f} "
            f"| {self.bytes_per_second / 1e9:.2f} | {self.median('bound_share'):.0%} | {self.binds} "
            f"| {self.disk} | {self.seconds / self.disk_seconds:.2f} | {self.peak_rss_bytes / 2**20:.0f} MiB |"
        )


def measure(programs: Programs, name: str, options: argparse.Namespace) -> Outcome:
    disk = disk_speeds(programs)
    config = all_on_nvme(
        programs.nvme, budget=BUDGET, host_cache=False, states={"moments": "int8", "master": "24bit"}
    )
    steps = WARM_UP + step_count(name, options)
    run = train(programs, gpt2(*SHAPES[name]), config, tokens=options.tokens, steps=steps)
    return Outcome(name, disk, run.steps[WARM_UP:], run.peak_rss_bytes)


def spread(outcomes: List[Outcome]) -> float:
    """How much longer the slowest takes for a parameter than the fastest."""
    times = [outcome.nanoseconds_per_parameter for outcome in outcomes]
    return max(times) / min(times) - 1


def page(options: argparse.Namespace, where: str, outcomes: List[Outcome]) -> str:
    bound = [outcome for outcome in outcomes if outcome.binds == "disk"]
    return "\n".join(
        [
            "# A step of models of growing width",
            "",
            "GPT-2-like models from random weights, everything on NVMe, 8-bit moments and 24-bit masters (5 bytes a",
            f"parameter at rest, and 2 for its gradient, most of which pass through the disk too), {options.tokens} tokens a step,",
            f"bf16, clipping at 1.0, recomputation. Budgets are the same for all: {BUDGET['host']} of host memory, {BUDGET['device']} of",
            "the device tier, nothing kept in host memory (`host_cache` false).",
            "",
            f"**Where the disk binds ({len(bound)} of {len(outcomes)}), the slowest takes {spread(bound):.0%} longer for a parameter than the",
            f"fastest.** Wanted: within {FLAT:.0%}.",
            "",
            "| parameters (layers x width) | step, s: median (fastest to slowest) | ns a parameter | read, GB | written, GB "
            "| bytes a parameter | GB/s | busy share of what binds | binds | the disk right before | step / the disk's least | peak RSS |",
            "|" + "---|" * 12,
            *(outcome.row() for outcome in outcomes),
            "",
            "\"Busy share\" is the run's own figure: how much of the step the resource that binds was at work. \"The disk's least\"",
            "is the time for the step's bytes at the speeds that ds_nvme_bench measured right before, alone and in a mix (overlap:",
            "0, reads and writes take turns; 1, each goes as if alone). Smaller models move fewer bytes a parameter: the device has",
            "room for a larger part of their units from forward to backward.",
            "",
            *report.origin(where, f"bench/widths.py --nvme DIR --steps {options.steps} --tokens {options.tokens}"),
        ]
    )  # fmt: skip


def parse_arguments(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--steps", type=int, default=3, help="that count, of a large model; up to 8 of a small one")
    parser.add_argument("--tokens", type=int, default=128, help="of a step")
    parser.add_argument("--only", action="append", choices=SHAPES, help="a model; may be given again")
    return parser.parse_args(arguments)


def main(arguments: List[str]) -> int:
    options = parse_arguments(arguments)
    programs = Programs(options)
    where = machine.describe(options.nvme)
    outcomes = []
    for name in options.only or SHAPES:
        outcomes.append(measure(programs, name, options))
        print(outcomes[-1].row(), file=sys.stderr, flush=True)
    report.publish(page(options, where, outcomes), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
