#!/usr/bin/env python3
"""Trains with each format of the optimizer's states over several seeds, and writes the validation
losses as Markdown.

    bench/state_formats.py shakespeare.txt --work DIR --output docs/results/state_formats.md

bench/state_formats.json has the settings. All states are in memory, where formats give the same bits
as on NVMe. A run leaves its result in DIR and is not repeated while it is there; runs that are not
done yet are missing from the table. A run takes one thread; --jobs says how many go on at once.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any, Dict, List, Optional

import machine
import report

BENCH = pathlib.Path(__file__).resolve().parent
WANTED_PERCENT = 0.5
NO_DECAY = ["*.bias", "ln_*"]
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}

Setting = Dict[str, Any]
Format = Dict[str, str]


def parse_arguments(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path, help="the text to train on (Tiny Shakespeare)")
    parser.add_argument("--programs", type=pathlib.Path, default=BENCH.parent / "build/release/bin", metavar="DIR")
    parser.add_argument("--work", type=pathlib.Path, required=True, metavar="DIR", help="results of single runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each on one thread")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="default: standard output")
    return parser.parse_args(arguments)


def name_of(setting: Setting, form: Format, seed: int) -> str:
    return f"{setting['name']}-{form['precision']}-{form['master']}-{form['moments']}-{seed}"


def config_of(setting: Setting, form: Format) -> Dict[str, Any]:
    return {
        **setting["config"],
        "bf16": {"enabled": form["precision"] == "bf16"},
        "zero_optimization": {
            "stage": 3, "offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"},
        },
        "strata": {
            "states": {"master": form["master"], "moments": form["moments"]},
            "no_decay": NO_DECAY, "recompute": False, "threads": 1,
        },
    }  # fmt: skip


def train(options: argparse.Namespace, setting: Setting, form: Format, seed: int) -> None:
    """Does one run, and leaves its last validation loss in the work directory."""
    name = name_of(setting, form, seed)
    result = options.work / f"{name}.json"
    if result.exists():
        return
    directory = options.work / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "ds_config.json").write_text(json.dumps(config_of(setting, form)))
    if "preset" in setting:
        model = ["--preset", setting["preset"]]
    else:
        (directory / "model.json").write_text(json.dumps(setting["model"]))
        model = ["--model-config", directory / "model.json"]
    data = options.work / "data"
    command = [
        options.programs / "strata", "finetune", *model, "--config", directory / "ds_config.json",
        "--data", data / "train.bin", "--val-data", data / "val.bin", "--steps", setting["steps"],
        "--eval-batches", setting["eval_batches"], "--seed", seed, "--output", directory / "output",
    ]  # fmt: skip
    with open(directory / "log.txt", "w") as log:
        subprocess.run(
            [str(word) for word in command], check=True, stdout=log, stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    lines = [json.loads(line) for line in (directory / "output/metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    assert max(losses) == setting["steps"], f"{name} ended after step {max(losses)}"
    result.write_text(json.dumps({"loss": losses[setting["steps"]]}))
    shutil.rmtree(directory)
    print(f"{name}: {losses[setting['steps']]:.4f}", file=sys.stderr, flush=True)


def loss_of(options: argparse.Namespace, setting: Setting, form: Format, seed: int) -> Optional[float]:
    result = options.work / f"{name_of(setting, form, seed)}.json"
    return json.loads(result.read_text())["loss"] if result.exists() else None


def bytes_of(form: Format) -> int:
    """At rest, per parameter: weight, what it lacks of the master, m and v."""
    weight_and_master = 3 if form["master"] == "24bit" else 4
    return weight_and_master + 2 * BYTES[form["moments"]]


def difference(losses: Dict[int, float], of: Dict[int, float]) -> str:
    """How much larger the mean is over the seeds that both have, in percent."""
    seeds = losses.keys() & of.keys()
    if not seeds or losses is of:
        return ""
    return f"{100 * (sum(losses[s] for s in seeds) / sum(of[s] for s in seeds) - 1):+.2f} %"


def table(options: argparse.Namespace, setting: Setting) -> List[str]:
    forms = setting["formats"]
    results = []
    for form in forms:
        found = {seed: loss_of(options, setting, form, seed) for seed in options.seeds}
        results.append({seed: loss for seed, loss in found.items() if loss is not None})
    of_precision = {}
    for form, losses in zip(forms, results):
        of_precision.setdefault(form["precision"], losses)  # states in fp32 come first
    seeds = " | ".join(f"seed {seed}" for seed in options.seeds)
    lines = [
        f"## {setting['title']}", "",
        f"{setting['steps']} steps; the loss over {setting['eval_batches']} batches of the held-out tenth.", "",
        f"| computed in | master | moments | bytes | {seeds} | mean | to fp32 states | to the first row |",
        "|---|---|---|---|" + "---|" * (len(options.seeds) + 3),
    ]  # fmt: skip
    for form, losses in zip(forms, results):
        single = " | ".join(f"{losses[seed]:.4f}" if seed in losses else "" for seed in options.seeds)
        mean = f"{sum(losses.values()) / len(losses):.4f}" if losses else ""
        lines.append(
            f"| {form['precision']} | {form['master']} | {form['moments']} | {bytes_of(form)} | {single} | {mean} | "
            f"{difference(losses, of_precision[form['precision']])} | {difference(losses, results[0])} |"
        )
    return [*lines, ""]


def page(options: argparse.Namespace, settings: List[Setting], where: str) -> str:
    command = f"bench/state_formats.py {options.text.name} --work DIR --jobs {options.jobs}"
    lines = [
        "# What the formats of optimizer states cost in loss",
        "",
        "Characters of Tiny Shakespeare as tokens, the last tenth held out, AdamW with betas 0.9 and 0.99, weight decay",
        "0.1 on matrices, clipping at 1.0, a cosine to a tenth after 100 steps of warm-up. The formats of one seed start",
        "from the same weights and see the same batches. Bytes are those of a parameter at rest: weight, remainder of",
        f"the master, m and v. Wanted: a mean within {WANTED_PERCENT} % of fp32 states, at the same precision of compute.",
        "",
    ]  # fmt: skip
    for setting in settings:
        lines += table(options, setting)
    return "\n".join([*lines, *report.origin(where, command)])


def main(arguments: List[str]) -> int:
    options = parse_arguments(arguments)
    settings = json.loads((BENCH / "state_formats.json").read_text())["settings"]
    options.work.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, BENCH.parent / "tools/prepare_tokens.py", "--char-level", "--val-fraction", "0.1",
         "--output", options.work / "data", options.text], check=True, stdout=sys.stderr,
    )  # fmt: skip
    where = machine.describe(options.work)
    for setting in settings:  # one after the other, so that the first is complete first
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            runs = [
                pool.submit(train, options, setting, form, seed) for seed in options.seeds for form in setting["formats"]
            ]
            for run in runs:
                run.result()
    report.publish(page(options, settings, where), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
