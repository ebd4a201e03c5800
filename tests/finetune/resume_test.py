"""`strata finetune` that is stopped and goes on: the same numbers as if nothing had happened.

Usage: resume_test.py FILE_FAULT_LIBRARY [all] [TEST] PROGRAM

With "all" the process is killed at many more places. STRATA_TORTURE and STRATA_TORTURE_SEED in the environment
(tests/support/torture.h) say how often it is killed at instants that are drawn, and by what number.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import unittest
from typing import Any, Optional

import launch
import program

MANY_POINTS = "all" in sys.argv
if MANY_POINTS:
    sys.argv.remove("all")
FILE_FAULT = sys.argv.pop(1)

SECONDS_MAX = 120
TORTURE = int(os.environ.get("STRATA_TORTURE", 1))
TORTURE_SEED = int(os.environ.get("STRATA_TORTURE_SEED", 1))
STEPS = 7
# Dropout, so that random numbers matter; a rate that depends on the step.
MODEL = {**program.TINY_MODEL, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
CONFIG = {**program.EVERYTHING_ON_NVME,
          "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-2, "warmup_num_steps": 5}}}
RUN = {"--steps": STEPS, "--val-fraction": 0.3, "--eval-every": 2, "--eval-batches": 2}
SAVING = {**RUN, "--save-every": 3, "--resume": True}
KEYS = ("step", "epoch", "loss", "grad_norm", "learning_rate", "loss_scale", "overflow", "eval_loss")


def numbers(metrics: pathlib.Path) -> list:
    """What does not depend on time of every line."""
    lines = map(json.loads, metrics.read_text().splitlines())
    return [[line.get(key) for key in KEYS] for line in lines]


class Resume(program.WorkspaceTest):
    def setUp(self) -> None:
        super().setUp()
        self.space.write("model.json", MODEL)
        self.space.write("ds.json", CONFIG)
        self.saved = self.space.path / "output.checkpoints"

    def whole(self, changes: dict[str, Any] = {}) -> pathlib.Path:
        output = self.space.path / "whole"
        self.finetune({**RUN, **changes, "--output": output})
        return output

    def same(self, output: pathlib.Path, whole: pathlib.Path) -> None:
        self.assertEqual(numbers(output / "metrics.jsonl"), numbers(whole / "metrics.jsonl"))
        for name in ("model.safetensors", "config.json"):
            self.assertEqual((output / name).read_bytes(), (whole / name).read_bytes(), name)

    def tags(self) -> list[str]:
        return sorted(entry.name for entry in self.saved.glob("step_*"))

    def with_fault(self, fault: str, changes: dict[str, Any] = SAVING) -> subprocess.CompletedProcess:
        environment = {**program.environment(), "LD_PRELOAD": FILE_FAULT,
                       "STRATA_FILE_FAULT": f"{fault}:{self.saved}"}
        return subprocess.run(self.space.command(changes), cwd=self.space.path, capture_output=True,
                              text=True, timeout=SECONDS_MAX, env=environment, check=False)

    # ---- going on ----

    def test_saving_changes_nothing_and_leaves_the_newest(self) -> None:
        whole = self.whole()
        result = self.finetune(SAVING)
        self.assertIn("there is no checkpoint in output.checkpoints yet; the run begins afresh",
                      result.stderr.replace(str(self.space.path) + "/", ""))
        self.same(self.space.output, whole)
        self.assertEqual(self.tags(), ["step_00000003", "step_00000006"])

    def test_more_steps_go_on_from_where_it_was_saved(self) -> None:
        whole = self.whole()
        self.finetune({**SAVING, "--steps": 4})
        longer = self.space.path / "longer"
        result = self.finetune({**SAVING, "--output": longer, "--checkpoints": self.saved})
        self.assertIn("after step 3", result.stderr)
        self.same(longer, whole)
        shown = program.scalars_in_tensorboard(self, longer / "runs")
        self.assertEqual([step for step, _ in shown["train/loss"]], list(range(1, STEPS + 1)))

    def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(self) -> None:
        steps = {"--steps": 30}
        whole = self.whole(steps)
        changes = {**SAVING, **steps, "--save-every": 1, "--keep": 1}
        for kill in range(3):
            running = subprocess.Popen(self.space.command(changes), cwd=self.space.path,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env=program.environment())
            before = self.newest() or ""
            while (self.newest() or "") <= before and running.poll() is None:
                time.sleep(0.01)
            running.kill()
            running.communicate()
            self.assertEqual(running.returncode, -signal.SIGKILL, f"kill {kill}")
        self.assertFalse(self.space.output.exists())
        self.finetune(changes)
        self.same(self.space.output, whole)

    def test_tensorboards_events_that_cannot_be_written_cost_neither_run_nor_metrics(self) -> None:
        self.saved.mkdir()
        (self.saved / "runs").write_text("a file stands where the directory would be")
        result = self.finetune(SAVING)
        self.assertEqual(result.stderr.count("TensorBoard's events end here"), 1, result.stderr)
        self.assertEqual(len(numbers(self.space.output / "metrics.jsonl")), STEPS + 5)
        self.assertFalse((self.space.output / "runs").exists())

    def test_a_run_that_is_killed_at_any_instant_loses_nothing(self) -> None:
        steps = {"--steps": 20}
        begin = time.monotonic()
        whole = self.whole(steps)
        seconds = time.monotonic() - begin
        changes = {**SAVING, **steps, "--save-every": 1, "--keep": 2}
        draw = random.Random(TORTURE_SEED)
        kills = 0
        while kills < 2 * TORTURE:
            running = subprocess.Popen(self.space.command(changes), cwd=self.space.path, text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=program.environment())
            try:
                running.communicate(timeout=draw.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                running.kill()
            _, log = running.communicate()
            if running.returncode == -signal.SIGKILL:
                kills += 1
                if not self.space.output.exists():  # else it was killed with all done
                    continue
            else:
                self.assertEqual(running.returncode, 0, log)
            self.same(self.space.output, whole)
            for directory in (self.space.output, self.saved):
                subprocess.run(["rm", "-r", str(directory)], check=True)
        self.finetune(changes)
        self.same(self.space.output, whole)
        if "STRATA_TORTURE" in os.environ:
            print(f"torture: {kills} kills of the program at any instant", flush=True)

    def newest(self) -> Optional[str]:
        try:
            return (self.saved / "latest").read_text()
        except FileNotFoundError:
            return None

    def test_another_place_of_states_goes_on_with_the_same_bits(self) -> None:
        whole = self.whole()
        self.finetune({**SAVING, "--steps": 4})
        other = {**CONFIG, "steps_per_print": 1,
                 "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}},
                 "strata": {"io": "threads", "threads": 1, "chunk_bytes": 65536}}
        self.space.write("ds.json", other)
        longer = self.space.path / "longer"
        self.finetune({**SAVING, "--output": longer, "--checkpoints": self.saved, "--nvme": None,
                       "--budget": "host=1GiB"})
        self.same(longer, whole)

    def test_saves_when_minutes_have_passed(self) -> None:
        self.finetune({**RUN, "--save-minutes": 1e-6, "--keep": 3})
        self.assertEqual(self.tags(), ["step_00000005", "step_00000006", "step_00000007"])

    # ---- refusals ----

    def test_what_would_change_the_numbers_is_refused_by_name(self) -> None:
        self.finetune({**SAVING, "--steps": 4})
        self.space.write("other.txt", program.TEXT.replace("sea", "see", 1))
        self.space.write("other.json", {**MODEL, "n_head": 4})
        longer = {**SAVING, "--output": self.space.path / "longer", "--checkpoints": self.saved}
        configs = {"optimizer.params.lr": {"optimizer": {"type": "AdamW", "params": {"lr": 2e-2}}},
                   "train_batch_size": {"train_batch_size": 16},
                   "gradient_clipping": {"gradient_clipping": 0.5},
                   "bf16.enabled": {"bf16": {"enabled": False}},
                   "scheduler.params.warmup_num_steps": {"scheduler": {
                       "type": "WarmupLR", "params": {"warmup_max_lr": 1e-2, "warmup_num_steps": 9}}}}
        cases = [({"--seed": 9}, "--seed: was 1337, is 9"), ({"--data": "other.txt"}, "the data to train on"),
                 ({"--seq-len": 16}, "the length of a sequence: was 32, is 16"),
                 ({"--model-config": "other.json"}, "the model")]
        for number, (word, change) in enumerate(configs.items()):
            name = f"other{number}.json"
            self.space.write(name, {**CONFIG, **change})
            cases.append(({"--config": name}, word))
        for changes, word in cases:
            result = self.space.finetune({**longer, **changes})
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(word, result.stderr)
            self.assertFalse((self.space.path / "longer").exists())

    def test_checkpoints_of_another_run_are_not_mixed_with_new_ones(self) -> None:
        self.finetune({**SAVING, "--steps": 4})
        result = self.space.finetune({**SAVING, "--resume": None, "--output": self.space.path / "other",
                                      "--checkpoints": self.saved})
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("add --resume to go on with it", result.stderr)

    def test_a_damaged_checkpoint_is_refused_by_its_file(self) -> None:
        self.finetune({**SAVING, "--steps": 4})
        file = self.saved / "step_00000003" / "m.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\x55")
        result = self.space.finetune({**SAVING, "--output": self.space.path / "longer",
                                      "--checkpoints": self.saved})
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("m.safetensors", result.stderr)
        self.assertIn("checksum", result.stderr)

    # ---- signals ----

    def start(self, changes: dict[str, Any]) -> subprocess.Popen:
        running = subprocess.Popen(self.space.command(changes), cwd=self.space.path,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=program.environment())
        self.addCleanup(running.kill)
        self.assertTrue(running.stdout.readline())
        return running

    def test_a_signal_lets_it_save_and_the_run_goes_on_with_the_same_bits(self) -> None:
        changes = {**SAVING, "--steps": 80, "--save-every": 1000000}
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            running = self.start(changes)
            running.send_signal(number)
            _, log = running.communicate(timeout=SECONDS_MAX)
            self.assertEqual(running.returncode, 130, log)
            self.assertIn("the same command with --resume goes on from there", log)
            self.assertFalse(self.space.output.exists())
        whole = self.whole({"--steps": 80})
        self.finetune(changes)
        self.same(self.space.output, whole)

    def test_a_second_signal_ends_it_at_once(self) -> None:
        self.space.write("ds.json", {**CONFIG, "train_batch_size": 4 * 5000})  # a step takes seconds
        running = self.start({**SAVING, "--save-every": 1000000})
        running.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=SECONDS_MAX)
        self.assertEqual(running.returncode, 130, log)
        self.assertIn("SIGTERM: this step is finished and saved; a second signal ends the run", log)
        self.assertEqual(self.tags(), [])
        left = {entry.name for entry in self.space.path.iterdir()}
        self.assertEqual(left, {"nvme", "text.txt", "model.json", "ds.json", "output.checkpoints"})

    # ---- disks ----

    def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(self) -> None:
        whole = self.whole()
        result = self.with_fault("full:60")  # in the middle of the first one, and for good
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("ENOSPC", result.stderr)
        self.assertIn("the run goes on without this checkpoint", result.stderr)
        self.same(self.space.output, whole)
        self.assertEqual(self.tags(), [])

    def test_a_kill_at_any_write_of_a_checkpoint_loses_nothing(self) -> None:
        whole = self.whole()
        points = range(1, 330, 3) if MANY_POINTS else (1, 9, 60, 160, 172, 320)
        survived = 0
        for point in points:
            for kind in ("kill", "tear") if MANY_POINTS else ("tear",):
                result = self.with_fault(f"{kind}:{point}")
                if result.returncode == 0:
                    survived += 1
                else:
                    self.assertEqual(result.returncode, -signal.SIGKILL, result.stderr)
                    self.finetune(SAVING)
                self.same(self.space.output, whole)
                self.assertEqual(self.tags(), ["step_00000003", "step_00000006"])
                self.assertEqual([name for name in os.listdir(self.saved) if name.startswith(".")], [])
                for directory in (self.space.output, self.saved):
                    subprocess.run(["rm", "-r", str(directory)], check=True)
        self.assertLess(survived, 2, "the points lie behind the end of the run")


class ResumeOfRanks(program.WorkspaceTest):
    def test_two_ranks_that_are_stopped_go_on_with_the_same_bits(self) -> None:
        self.space.write("model.json", MODEL)
        self.space.write("ds.json", CONFIG)
        whole = self.space.path / "whole"
        self.trained({**RUN, "--output": whole})
        saved = {"--checkpoints": self.space.path / "saved"}
        self.trained({**SAVING, **saved, "--steps": 4})
        longer = self.space.path / "longer"
        errors = self.trained({**SAVING, **saved, "--output": longer})
        self.assertIn("after step 3", errors[0])
        self.assertEqual(errors[1], "")
        self.assertEqual(numbers(longer / "metrics.jsonl"), numbers(whole / "metrics.jsonl"))
        self.assertEqual((longer / "model.safetensors").read_bytes(),
                         (whole / "model.safetensors").read_bytes())

    def test_a_signal_to_one_of_them_saves_on_both(self) -> None:
        self.space.write("model.json", MODEL)
        changes = {**SAVING, "--steps": 1000000, "--save-every": 1000000}
        processes = self.start(changes)
        self.assertTrue(processes[0].stdout.readline())
        processes[1].send_signal(signal.SIGTERM)
        for process in processes:
            _, log = process.communicate(timeout=SECONDS_MAX)
            self.assertEqual(process.returncode, 130, log)
        self.assertTrue((self.space.path / "output.checkpoints" / "latest").exists())

    def start(self, changes: dict[str, Any]) -> list[subprocess.Popen]:
        commands = [self.space.command(changes)] * 2
        processes = launch.start_by_variables(commands, cwd=self.space.path, env={"OMP_NUM_THREADS": "1"})
        self.addCleanup(lambda: [process.kill() for process in processes])
        return processes

    def trained(self, changes: dict[str, Any]) -> list[str]:
        errors = []
        for process in self.start(changes):
            _, err = process.communicate(timeout=SECONDS_MAX)
            self.assertEqual(process.returncode, 0, err)
            errors.append(err)
        return errors


if __name__ == "__main__":
    unittest.main(verbosity=2)
