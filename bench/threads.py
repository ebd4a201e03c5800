#!/usr/bin/env python3
"""Measures how the optimizer's threads and LibTorch's share the cores: training steps of the GPT-2-small shape
on NVMe, with one thread of the optimizer and with one a core, and with OpenMP threads that sleep while they
wait and that spin, and writes them as Markdown.

    bench/threads.py --nvme /mnt/nvme --output docs/results/threads.md

Each contestant is a process of its own, step_benchmark's; they take turns, and go on until the time is up. What
the environment says of OpenMP counts for none of them.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from typing import Dict, List, Optional

import report
from programs import Programs, command_line
from turns import Contestant, ratio

ROUNDS_MIN = 2  # even if the time is up


@dataclasses.dataclass(frozen=True)
class Setting:
    """`wait_policy`: of OpenMP; None: nothing is said, as in a shell where nobody did."""

    optimizer_threads: int  # one, or 0: one a core
    wait_policy: Optional[str]

    def __str__(self) -> str:
        threads = "one a core" if self.optimizer_threads == 0 else "one"
        return f"{threads} | {self.wait_policy or 'not set'}"

    @property
    def environment(self) -> Dict[str, Optional[str]]:
        """As libgomp reads it, at its load: PASSIVE threads sleep at once; where nothing is set they spin 300,000
        times first. GOMP_SPINCOUNT would take the place of both, OMP_NUM_THREADS that of one thread a core."""
        return {"OMP_WAIT_POLICY": self.wait_policy, "GOMP_SPINCOUNT": None, "OMP_NUM_THREADS": None}


# The first one is what the others are divided by.
SETTINGS = [Setting(threads, policy) for policy in ("PASSIVE", None) for threads in (0, 1)]


@dataclasses.dataclass(frozen=True)
class Work:
    title: str
    text: str
    contestant: str  # of step_benchmark
    micro_batches: int
    turn: int  # steps
    part: float  # of the time


WORKS = [
    Work(
        "One micro-batch with clipping", "A step is one micro-batch; its update goes on under the next forward.",
        "nvme", micro_batches=1, turn=2, part=1 / 3,
    ),
    Work(
        "Eight micro-batches under backward",
        "A step is eight micro-batches, unit by unit, without clipping; units are updated under backward.",
        "nvme-early", micro_batches=8, turn=1, part=2 / 3,
    ),
]  # fmt: skip


def contestant_of(work: Work, setting: Setting, options: argparse.Namespace, programs: Programs) -> Contestant:
    command = programs.command(
        "step_benchmark", "--contestant", work.contestant, "--preset", "gpt2", "--tokens", options.tokens,
        "--micro-batches", work.micro_batches, "--threads", setting.optimizer_threads, "--nvme", programs.nvme,
        "--host", options.host, "--device", options.device,
    )  # fmt: skip
    return Contestant(str(setting), command, setting.environment)


def require_all(contestants: List[Contestant]) -> None:
    for contestant in contestants:
        if contestant.failure:
            raise SystemExit(f"{contestant.description}: {contestant.failure}")


def measure(work: Work, options: argparse.Namespace, programs: Programs) -> List[Contestant]:
    end = time.monotonic() + 60 * options.minutes * work.part
    contestants = [contestant_of(work, setting, options, programs) for setting in SETTINGS]
    for contestant in contestants:
        contestant.warm_up(1)
    rounds, longest = 0, 0.0
    while rounds < ROUNDS_MIN or time.monotonic() + longest < end:
        start = time.monotonic()
        # There and back, so that none is always the one after another.
        for contestant in contestants if rounds % 2 == 0 else reversed(contestants):
            contestant.turn(work.turn)
        require_all(contestants)
        rounds, longest = rounds + 1, max(longest, time.monotonic() - start)
    for contestant in contestants:
        contestant.close()
    return contestants


def row(one: Contestant, first: Contestant) -> str:
    turns = one.turns
    compute = statistics.median(turn.busy_seconds("compute") for turn in turns)
    update = statistics.median(turn.busy_seconds("step") for turn in turns)
    stands_still = statistics.median(turn.waits_for_disk / turn.seconds for turn in turns)
    return (
        f"| {one.description} | {one.times()} | {ratio(one, first):.2f} | {compute:.3f} | {update:.3f} "
        f"| {stands_still:.0%} |"
    )


def section(work: Work, contestants: List[Contestant]) -> List[str]:
    first = contestants[0]
    steps = "one step" if work.turn == 1 else f"{work.turn} steps"
    return [
        f"## {work.title}",
        "",
        work.text,
        "",
        "| threads of the optimizer | `OMP_WAIT_POLICY` | step, s: median (fastest to slowest) | / the first row's "
        "| forward and backward, s | update, s | stands still for the update and the disk |",
        "|" + "---|" * 7,
        *(row(one, first) for one in contestants),
        "",
        f"{len(first.turns)} rounds; in each, every row has a turn of {steps}, after one that does not count.",
        "",
    ]


def finding(work: Work, contestants: List[Contestant]) -> str:
    first, unset = contestants[0], contestants[SETTINGS.index(Setting(0, None))]
    fastest = min(contestants, key=lambda one: ratio(one, first))
    return (
        f"**{work.title}: {ratio(unset, first):.2f} times the time of PASSIVE where nothing is set, with one thread a core; "
        f"the fastest row is \"{fastest.description.replace(' | ', ', ')}\", {ratio(fastest, first):.2f} of it.**"
    )


def page(options: argparse.Namespace, where: str, results: Dict[Work, List[Contestant]]) -> str:
    command = (
        f"bench/threads.py --nvme DIR --minutes {options.minutes:g} --tokens {options.tokens} --host {options.host} "
        f"--device {options.device}"
    )
    return "\n".join(
        [
            "# The optimizer's threads beside LibTorch's",
            "",
            "The GPT-2-small shape (124 M parameters), everything on NVMe, bf16, recomputation, budgets of "
            f"{options.host} (host)",
            f"and {options.device} (device), {options.tokens} tokens a micro-batch. LibTorch has one OpenMP thread a core. The optimizer's threads",
            "(`strata.threads`, oneTBB) work at the same time where the update goes on beside forward or backward; so do the",
            "queue's driver and the thread that makes the step, one each. LibTorch's libgomp reads `OMP_WAIT_POLICY` when it is",
            "loaded: with PASSIVE a thread without work sleeps at once, without a word it spins 300,000 times first, and keeps its",
            "core for that long.",
            "",
            *(finding(work, contestants) for work, contestants in results.items()),
            "",
            *(line for work, contestants in results.items() for line in section(work, contestants)),
            "Ratios are medians of the rounds' ratios. \"Update\" is the time of the optimizer's arithmetic, waits for the disk not",
            "counted. A strict ACTIVE, whose threads never sleep, is left out: those of a contestant that waits for its turn would",
            "take the cores from the others.",
            "",
            *report.origin(where, command),
        ]
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--minutes", type=float, default=5.5, help="of all")
    parser.add_argument("--tokens", type=int, default=128, help="of a micro-batch")
    parser.add_argument("--host", default="292MiB", help="budget")
    parser.add_argument("--device", default="91MiB", help="budget")
    return parser


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> str:
    results = {}
    for work in WORKS:
        results[work] = measure(work, options, programs)
        print("\n".join(section(work, results[work])), file=sys.stderr, flush=True)
    return page(options, where, results)


if __name__ == "__main__":
    report.run(parser(), measured_page)
