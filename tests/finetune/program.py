"""What the tests of the `strata` program share: a workspace of small inputs, and running it."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from typing import Any, Iterator

PROGRAM = sys.argv.pop()  # the last argument of each of these tests

TINY_MODEL = {
    "model_type": "gpt2",
    "vocab_size": 256,
    "n_positions": 32,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}

EVERYTHING_ON_NVME = {
    "train_batch_size": 8,
    "train_micro_batch_size_per_gpu": 4,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-2}},
    "bf16": {"enabled": True},
    "zero_optimization": {
        "stage": 3,
        "offload_param": {"device": "nvme"},
        "offload_optimizer": {"device": "nvme"},
    },
    "strata": {"host_cache": False},
}

TEXT = "She sells sea shells by the sea shore; the shells she sells are sea shells for sure.\n" * 40


def environment() -> dict[str, str]:
    """One OpenMP thread: on models this small more of them only wait for each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


class Workspace:
    """A directory with a valid input of every kind, which tests replace by bad ones."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.output = path / "output"
        (path / "nvme").mkdir()
        self.write("text.txt", TEXT)
        self.write("model.json", TINY_MODEL)
        self.write("ds.json", EVERYTHING_ON_NVME)

    def write(self, name: str, content: Any) -> pathlib.Path:
        """Writes bytes or text as they are and anything else as JSON."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (bytes, str)):
            content = json.dumps(content)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def command(self, changes: dict[str, Any]) -> list[str]:
        """`strata finetune` on the valid inputs; `changes` replaces options, None drops one."""
        arguments = {
            "--model-config": "model.json",
            "--data": "text.txt",
            "--config": "ds.json",
            "--output": str(self.output),
            "--steps": "1",
            "--nvme": "nvme",
            **changes,
        }
        words = [PROGRAM, "finetune"]
        for option, value in arguments.items():
            if value is True:
                words.append(option)
            elif value is not None:
                words += [option, str(value)]
        return words

    def finetune(self, changes: dict[str, Any], **options: Any) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(changes), cwd=self.path, capture_output=True, text=True, timeout=240,
            env=environment(), check=False, **options)


@contextlib.contextmanager
def workspace() -> Iterator[Workspace]:
    with tempfile.TemporaryDirectory(prefix="strata_finetune_") as directory:
        yield Workspace(pathlib.Path(directory))


def scalars_in_tensorboard(test: unittest.TestCase, runs: pathlib.Path) -> dict[str, list]:
    """Steps and values of every tag, as TensorBoard reads the event files of a directory."""
    try:
        from tensorboard.backend.event_processing import event_accumulator
    except ImportError as error:
        test.skipTest(f"{error}; tools/setup.sh --test installs it")
    shown = event_accumulator.EventAccumulator(str(runs)).Reload()
    return {tag: [(each.step, each.value) for each in shown.Scalars(tag)]
            for tag in shown.Tags()["scalars"]}


class WorkspaceTest(unittest.TestCase):
    """Tests that have a workspace each."""

    def setUp(self) -> None:
        context = workspace()
        self.space = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def finetune(self, changes: dict[str, Any]) -> subprocess.CompletedProcess:
        result = self.space.finetune(changes)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result
