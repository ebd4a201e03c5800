#!/usr/bin/env python3
"""Trains nanoGPT's published CPU setting twice, on NVMe with Strata and in memory without it, and
writes both curves as Markdown.

    bench/nanogpt_cpu.py shakespeare.txt --nvme /mnt/nvme --output docs/results/nanogpt_cpu.md

4 layers, 4 heads, width 128, context 64, batch 12, no dropout, tied head, characters as tokens; the
last tenth of the text is held out; 2000 steps of fp32. Both runs start from the same weights and see
the same batches.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Dict, List

import machine
import report
from programs import command_line

BENCH = pathlib.Path(__file__).resolve().parent
LOSS_WANTED = 1.93


def parse_arguments(arguments: List[str]) -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("text", type=pathlib.Path, help="the text to train on (Tiny Shakespeare)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--eval-every", type=int, default=250)
    parser.add_argument("--eval-batches", type=int, default=200)
    return parser.parse_args(arguments)


def run(command: List[object]) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)


def flags(options: argparse.Namespace, data: pathlib.Path) -> List[object]:
    """What both programs are told."""
    return [
        "finetune", "--preset", "nanogpt-cpu", "--config", BENCH / "nanogpt_cpu.json",
        "--data", data / "train.bin", "--val-data", data / "val.bin", "--steps", options.steps,
        "--eval-every", options.eval_every, "--eval-batches", options.eval_batches,
    ]  # fmt: skip


class Curve:
    """What a run's metrics.jsonl says."""

    def __init__(self, directory: pathlib.Path) -> None:
        lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        self.validation: Dict[int, float] = {x["step"]: x["eval_loss"] for x in lines if "eval_loss" in x}
        self.steps = [x for x in lines if "loss" in x]
        self.seconds = sum(x["step_seconds"] for x in self.steps)

    def training_loss(self, step: int) -> float:
        """Mean over the 50 steps up to `step`: one batch says little."""
        losses = [x["loss"] for x in self.steps if step - 50 < x["step"] <= step]
        return sum(losses) / len(losses)

    def last(self) -> float:
        return self.validation[max(self.validation)]


def page(options: argparse.Namespace, where: str, nvme: Curve, memory: Curve) -> str:
    first, end = nvme.steps[0], nvme.steps[-1]
    rows = [
        f"| {step} | {loss:.4f} | {memory.validation[step]:.4f} | "
        + (f"{nvme.training_loss(step):.4f} | {memory.training_loss(step):.4f} |" if step else "| |")
        for step, loss in sorted(nvme.validation.items())
    ]
    apart = max(abs(loss - memory.validation[step]) for step, loss in nvme.validation.items())
    moved = sum(x["read_bytes"] + x["written_bytes"] for x in nvme.steps) / 1e9
    command = f"bench/nanogpt_cpu.py {options.text.name} --nvme DIR --steps {options.steps}"
    return "\n".join(
        [
            "# nanoGPT's CPU setting, all state on NVMe",
            "",
            "4 layers, 4 heads, width 128, context 64, batch 12, no dropout, tied head, characters of Tiny",
            f"Shakespeare as tokens, the last tenth held out, {options.steps} steps in fp32 at a learning rate of 1e-3",
            "after 100 steps of warm-up, cosine to 1e-4, betas 0.9 and 0.99, weight decay 0.1 on matrices only,",
            "clipping at 1.0. `strata finetune` with weights and optimizer states on NVMe, and plain LibTorch with",
            "`torch::optim::AdamW` in memory: same initial weights, same batches, same schedule.",
            "",
            f"**Validation loss after {max(nvme.validation)} steps, over {options.eval_batches} batches: "
            f"{nvme.last():.3f} on NVMe, {memory.last():.3f} in memory.** Wanted: at most {LOSS_WANTED}.",
            f"The two curves are at most {apart:.1g} apart.",
            "",
            "| step | validation, NVMe | validation, memory | training, NVMe | training, memory |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "Training losses are means over the last 50 steps. "
            f"The first step's losses: {first['loss']:.6f} and {memory.steps[0]['loss']:.6f}.",
            "",
            f"- Steps took {nvme.seconds:.0f} s on NVMe and {memory.seconds:.0f} s in memory, one run after the other.",
            f"- Peak bytes on NVMe's run: device {end['device_bytes_peak'] / 2**20:.1f} MiB, "
            f"host {end['host_bytes_peak'] / 2**20:.1f} MiB, nvme {end['nvme_bytes_peak'] / 2**20:.1f} MiB; "
            f"{moved:.1f} GB were read and written.",
            *report.origin(where, command),
        ]
    )


def main(arguments: List[str]) -> int:
    options = parse_arguments(arguments)
    where = machine.describe(options.nvme)
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        run(
            [sys.executable, BENCH.parent / "tools/prepare_tokens.py", "--char-level",
             "--val-fraction", "0.1", "--output", work / "data", options.text]
        )  # fmt: skip
        common = flags(options, work / "data")
        run([options.programs / "strata", *common, "--nvme", options.nvme, "--output", work / "nvme"])
        run([options.programs / "train_in_memory", *common, "--output", work / "memory"])
        nvme, memory = Curve(work / "nvme"), Curve(work / "memory")
        text = page(options, where, nvme, memory)
    report.publish(text, options.output)
    return 0 if nvme.last() <= LOSS_WANTED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
