#!/usr/bin/env python3
"""Trains GPT-2-like models of growing width with everything on NVMe and the same share of each in memory, and
writes what a step takes for each of them as Markdown.

    bench/widths.py --nvme /mnt/nvme --output docs/results/widths.md

Random weights, 8-bit moments and 24-bit masters: 5 bytes a parameter at rest, and 2 for its gradient. Half of the
weights and a third of the gradients have room in memory, so that a parameter moves the same bytes at every width.
The largest takes 41 GB of the disk while it runs, and 11 GB of memory. The disk is measured anew right before
each of them.
"""

import argparse
import dataclasses
import statistics
import sys
from typing import Any, Dict, List

import report
from programs import DiskSpeeds, Programs, command_line, disk_speeds
from training import all_on_nvme, gpt2, plan, train

WARM_UP = 2  # steps: the order of units is recorded, then followed
FLAT = 0.15
WEIGHT_BYTES = GRADIENT_BYTES = 2  # of a parameter
PARAMETER_BYTES = 5 + GRADIENT_BYTES
WEIGHTS_KEPT, GRADIENTS_KEPT = 1 / 2, 1 / 3
# Slots and windows with which reads, writes and arithmetic overlap, which take the same at every width.
STAGING_BYTES = 75 << 20
SHAPES = {"0.1B": (12, 768), "0.35B": (24, 1024), "0.8B": (36, 1280), "1.6B": (48, 1600), "3B": (32, 2688),
          "6B": (28, 4096)}  # fmt: skip


def parameters_of(name: str) -> int:
    """As GPT-2 counts them: blocks, two embeddings, the last norm; the head is tied."""
    layers, width = SHAPES[name]
    return layers * (12 * width * width + 13 * width) + (50304 + 1024 + 2) * width


def step_count(name: str, options: argparse.Namespace) -> int:
    """More of small models, whose short steps feel each swing of a disk that others share."""
    return max(options.steps, min(8, int(6e9 / parameters_of(name))))


def config_of(name: str, programs: Programs) -> Dict[str, Any]:
    """Nothing rests in memory (`host_cache` would keep what has room): units stay on the device from forward to
    backward, and gradients until they are applied. The tied embedding, whose gradient comes twice in a step and
    which is a third of the smallest model, has room in both shares."""
    parameters = parameters_of(name)
    budget = {
        "host": STAGING_BYTES + int(GRADIENTS_KEPT * GRADIENT_BYTES * parameters),
        "device": int(WEIGHTS_KEPT * WEIGHT_BYTES * parameters),
    }
    config = all_on_nvme(
        programs.nvme, budget=budget, host_cache=False, states={"moments": "int8", "master": "24bit"}
    )
    config["zero_optimization"]["stage3_max_live_parameters"] = parameters  # the budget alone is the bound
    return config


@dataclasses.dataclass(frozen=True)
class Planned:
    """What `strata plan` says of a width, from the same budgets and the same schedule."""

    budgets: Dict[str, int]
    kept_bytes: int
    moved_bytes: float  # in a step

    @staticmethod
    def of(name: str, config: Dict[str, Any], disk: DiskSpeeds, programs: Programs, tokens: int) -> "Planned":
        answer = plan(programs, gpt2(*SHAPES[name]), config, disk, tokens=tokens)
        kept = ("unsharded units", "gradients")
        return Planned(
            budgets=answer["budgets"],
            kept_bytes=sum(item["bytes"] for item in answer["items"] if item["what"] in kept),
            moved_bytes=sum(answer["overlapped"]["hops"][hop]["bytes"] for hop in ("fetch", "flush")),
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
    name: str
    planned: Planned
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
    def moved_bytes(self) -> float:
        return self.median("read_bytes") + self.median("written_bytes")

    @property
    def nanoseconds_per_byte(self) -> float:
        return self.seconds / self.moved_bytes * 1e9

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
        budgets = " + ".join(f"{self.planned.budgets[tier] / 2**20:.0f}" for tier in ("host", "device"))
        return (
            f"| {self.parameters / 1e9:.3f} B ({layers} x {width}) | {budgets} MiB "
            f"| {self.planned.kept_bytes / PARAMETER_BYTES / self.parameters:.1%} "
            f"| {self.seconds:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) "
            f"| **{self.nanoseconds_per_parameter:.1f}** | {self.nanoseconds_per_byte:.3f} "
            f"| {self.median('read_bytes') / 1e9:.2f} | {self.median('written_bytes') / 1e9:.2f} "
            f"| {self.moved_bytes / self.parameters:.2f} ({self.planned.moved_bytes / self.parameters:.2f}) "
            f"| {self.median('bound_share'):.0%} | {self.binds} | {self.disk} "
            f"| {self.seconds / self.disk_seconds:.2f} | {self.peak_rss_bytes / 2**20:.0f} MiB |"
        )


def measure(programs: Programs, name: str, options: argparse.Namespace) -> Outcome:
    disk = disk_speeds(programs)
    config = config_of(name, programs)
    planned = Planned.of(name, config, disk, programs, options.tokens)
    steps = WARM_UP + step_count(name, options)
    run = train(programs, gpt2(*SHAPES[name]), config, tokens=options.tokens, steps=steps)
    return Outcome(name, planned, disk, run.steps[WARM_UP:], run.peak_rss_bytes)


def spread(values: List[float]) -> float:
    """How far the largest is above the smallest."""
    return max(values) / min(values) - 1


def page(options: argparse.Namespace, where: str, outcomes: List[Outcome]) -> str:
    bound = [outcome for outcome in outcomes if outcome.binds == "disk"]
    by_parameter = spread([outcome.nanoseconds_per_parameter for outcome in bound])
    by_byte = spread([outcome.nanoseconds_per_byte for outcome in bound])
    moved = spread([outcome.moved_bytes / outcome.parameters for outcome in bound])
    return "\n".join(
        [
            "# A step of models of growing width",
            "",
            "GPT-2-like models from random weights, everything on NVMe, 8-bit moments and 24-bit masters (5 bytes a",
            f"parameter at rest, and 2 for its gradient), {options.tokens} tokens a step, bf16, clipping at 1.0, recomputation. The same share of",
            "each has room in memory, and so its parameters move the same bytes: the device's budget is half of the weights'",
            f"bytes, the host's is a third of the gradients' and the {STAGING_BYTES >> 20} MiB of slots and windows that all of them have. Nothing rests",
            "in memory (`host_cache` false): what has room stays from forward to backward, or until it is applied.",
            "",
            f"**Where the disk binds ({len(bound)} of {len(outcomes)}), the slowest takes {by_parameter:.0%} longer for a parameter than the",
            f"fastest.** Wanted: within {FLAT:.0%}. By the byte it is {by_byte:.0%}; bytes a parameter are within {moved:.1%}.",
            "",
            "| parameters (layers x width) | budgets: host + device | kept in memory, of the model's bytes "
            "| step, s: median (fastest to slowest) | ns a parameter | ns a byte | read, GB | written, GB "
            "| bytes a parameter (planned) | busy share of what binds | binds | the disk right before "
            "| step / the disk's least | peak RSS |",
            "|" + "---|" * 14,
            *(outcome.row() for outcome in outcomes),
            "",
            "\"Kept\" are units on the device and gradients in host memory, of 7 bytes a parameter. \"Planned\" is what `strata plan`",
            "says. \"Busy share\" is the run's own figure: how much of the step the resource that binds was at work. \"The disk's",
            "least\" is the time for the step's bytes at the speeds that ds_nvme_bench measured right before, alone and in a mix",
            "(overlap: 0, reads and writes take turns; 1, each goes as if alone).",
            "",
            *report.origin(where, f"bench/widths.py --nvme DIR --steps {options.steps} --tokens {options.tokens}"),
        ]
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=3, help="that count, of a large model; up to 8 of a small one")
    parser.add_argument("--tokens", type=int, default=128, help="of a step")
    parser.add_argument("--only", action="append", choices=SHAPES, help="a model; may be given again")
    return parser


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> str:
    outcomes = []
    for name in options.only or SHAPES:
        outcomes.append(measure(programs, name, options))
        print(outcomes[-1].row(), file=sys.stderr, flush=True)
    return page(options, where, outcomes)


if __name__ == "__main__":
    report.run(parser(), measured_page)
