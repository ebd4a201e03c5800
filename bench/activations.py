#!/usr/bin/env python3
"""Trains GPT-2 small's shape on sequences long enough for activations to be most of its memory, with activations
kept, recomputed, and recomputed from inputs that wait in host memory or on NVMe, in turns, and writes what each
way takes as Markdown.

    bench/activations.py --nvme /mnt/nvme --output docs/results/activations.md
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
from typing import Any, Dict, List

import report
from programs import Programs, command_line
from training import Training, all_on_nvme, gpt2, train

WARM_UP = 1  # step: the order of units is recorded
SHAPE = (12, 768)
BUDGET = {"host": "512MiB", "device": "256MiB"}
WAYS: Dict[str, Dict[str, Any]] = {
    "kept": {"recompute": False},
    "recomputed, inputs of blocks stay": {"recompute": True},
    "recomputed, inputs in host memory": {"recompute": True, "activations": {"host": "128MiB"}},
    "recomputed, inputs on NVMe": {"recompute": True, "activations": {"host": "32MiB", "nvme": "1GiB"}},
}


@dataclasses.dataclass
class Way:
    name: str
    seconds: List[float] = dataclasses.field(default_factory=list)  # a round each
    runs: List[Training] = dataclasses.field(default_factory=list)

    def add(self, run: Training) -> None:
        self.runs.append(run)
        self.seconds.append(statistics.median(step["step_seconds"] for step in run.steps[WARM_UP:]))

    def gigabytes(self, key: str) -> float:
        return statistics.median(step[key] for run in self.runs for step in run.steps[WARM_UP:]) / 1e9

    def row(self, kept: "Way") -> str:
        ratios = [own / other for own, other in zip(self.seconds, kept.seconds)]
        peak = max(run.peak_rss_bytes for run in self.runs) / 2**20
        return (
            f"| {self.name} | {statistics.median(self.seconds):.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {self.gigabytes('read_bytes'):.2f} "
            f"| {self.gigabytes('written_bytes'):.2f} | {peak:.0f} MiB |"
        )


def measure(programs: Programs, options: argparse.Namespace) -> List[Way]:
    ways = [Way(name) for name in WAYS]
    for _ in range(options.rounds):
        for way in ways:
            config = all_on_nvme(programs.nvme, budget=BUDGET, **WAYS[way.name])
            config["train_micro_batch_size_per_gpu"] = options.sequences
            steps = WARM_UP + options.steps
            way.add(train(programs, gpt2(*SHAPE), config, tokens=options.tokens, steps=steps))
            print(way.row(ways[0]), file=sys.stderr, flush=True)
    return ways


def page(options: argparse.Namespace, where: str, ways: List[Way]) -> str:
    layers, width = SHAPE
    return "\n".join(
        [
            "# Activations: kept, recomputed, sent away",
            "",
            f"GPT-2 small's shape ({layers} layers, width {width}) from random weights, {options.sequences} sequences of {options.tokens} tokens in one",
            f"micro-batch, bf16, clipping at 1.0, everything on NVMe, budgets of {BUDGET['host']} (host) and {BUDGET['device']} (device). Each way",
            f"has {options.steps} steps in a process of its own in each of {options.rounds} rounds, in turns; ratios are medians of the rounds'.",
            "",
            "| activations | step, s | / kept | read, GB | written, GB | peak RSS |",
            "|" + "---|" * 6,
            *(way.row(ways[0]) for way in ways),
            "",
            *report.origin(
                where,
                f"bench/activations.py --nvme DIR --rounds {options.rounds} --steps {options.steps} "
                f"--sequences {options.sequences} --tokens {options.tokens}",
            ),
        ]
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--steps", type=int, default=2, help="of a turn")
    parser.add_argument("--sequences", type=int, default=4, help="of a micro-batch")
    parser.add_argument("--tokens", type=int, default=1024, help="of a sequence")
    return parser


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> str:
    return page(options, where, measure(programs, options))


if __name__ == "__main__":
    report.run(parser(), measured_page)
