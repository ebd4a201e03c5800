"""`strata finetune` on several ranks, processes of this machine.

Usage: ranks_test.py PROGRAM
"""

import json
import pathlib
import signal
import subprocess
import time
import unittest
from typing import Any

import launch
import program

SECONDS_MAX = 120
IN_FP32 = {**program.EVERYTHING_ON_NVME, "bf16": {"enabled": False},
           "train_batch_size": 12, "train_micro_batch_size_per_gpu": 2}


class Ranks(program.WorkspaceTest):
    def start(self, ranks: int, changes: dict[str, Any], of_rank: dict[int, dict[str, Any]] = {}):
        commands = [self.space.command({**changes, **of_rank.get(rank, {})}) for rank in range(ranks)]
        processes = launch.start_by_variables(commands, cwd=self.space.path, env={"OMP_NUM_THREADS": "1"})
        self.addCleanup(lambda: [process.kill() for process in processes])
        return processes

    def ends_of(self, processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
        ends = []
        for process in processes:
            out, err = process.communicate(timeout=SECONDS_MAX)
            ends.append((process.returncode, out, err))
        return ends

    def trained(self, ranks: int, changes: dict[str, Any]) -> list[tuple[int, str, str]]:
        ends = self.ends_of(self.start(ranks, changes))
        for code, _, err in ends:
            self.assertEqual(code, 0, err)
        return ends

    def metrics(self, output: pathlib.Path, key: str) -> list:
        lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
        return [line[key] for line in lines if key in line]

    def nothing_is_left(self) -> None:
        names = sorted(entry.name for entry in self.space.path.iterdir())
        self.assertEqual(names, ["ds.json", "model.json", "nvme", "text.txt"])
        self.assertEqual(list((self.space.path / "nvme").iterdir()), [])

    def test_has_the_losses_of_one_rank_on_the_same_sequences(self) -> None:
        self.space.write("ds.json", IN_FP32)
        changes = {"--steps": 6, "--val-fraction": 0.3, "--eval-batches": 4, "--eval-every": 3}
        outputs = {ranks: self.space.path / f"ranks{ranks}" for ranks in (1, 2, 3)}
        self.finetune({**changes, "--output": outputs[1]})
        for ranks in (2, 3):
            self.trained(ranks, {**changes, "--output": outputs[ranks]})
            for key, count in (("loss", 6), ("eval_loss", 3), ("grad_norm", 6)):
                of_one, of_many = (self.metrics(outputs[n], key) for n in (1, ranks))
                self.assertEqual(len(of_many), count)
                for one, many in zip(of_one, of_many):
                    self.assertLess(abs(one - many), 1e-4 * one, f"{key} on {ranks} ranks")
        self.assertNotEqual(self.metrics(outputs[1], "loss")[0], self.metrics(outputs[1], "loss")[1])

    def test_a_loss_is_the_mean_over_the_tokens_that_bear_it_however_they_are_shared(self) -> None:
        self.space.write("data.jsonl", "".join(
            json.dumps({"prompt": "She sells" * (i % 3), "completion": "sea shells"[:2 + i % 7]}) + "\n"
            for i in range(40)))
        changes = {"--data": "data.jsonl", "--steps": None, "--epochs": 1, "--val-fraction": 0.4,
                   "--eval-batches": 3, "--pack": "off"}
        numbers = []
        for ranks, micro_batch in ((1, 12), (1, 3), (2, 2)):
            self.space.write("ds.json", {**IN_FP32, "train_micro_batch_size_per_gpu": micro_batch})
            output = self.space.path / f"ranks{ranks}of{micro_batch}"
            self.trained(ranks, {**changes, "--output": output})
            numbers.append([self.metrics(output, key) for key in ("loss", "grad_norm")])
        self.assertEqual(len(numbers[0][0]), 2)  # 24 sequences, 12 a step
        for others in numbers[1:]:
            for of_one, of_many in zip(numbers[0], others):
                for one, many in zip(of_one, of_many):
                    self.assertLess(abs(one - many), 1e-4 * one)

    def test_every_stage_trains_the_same_numbers_and_says_what_ranks_exchange(self) -> None:
        losses, bytes_of = {}, {}
        for stage in range(4):
            config = {**IN_FP32, "zero_optimization": {**IN_FP32["zero_optimization"], "stage": stage}}
            self.space.write("ds.json", config)
            output = self.space.path / f"stage{stage}"
            ends = self.trained(2, {"--steps": 4, "--output": output})
            self.assertIn("from other ranks", ends[0][1])
            losses[stage] = self.metrics(output, "loss")
            bytes_of[stage] = [self.metrics(output, key)[-1] for key in ("gathered_bytes", "reduced_bytes")]
        for stage in range(3):
            self.assertEqual(losses[stage], losses[3], f"stage {stage}")
        gathered, reduced = bytes_of[2]
        self.assertEqual(bytes_of, {0: [0, 2 * reduced], 1: [gathered, reduced], 2: [gathered, reduced],
                                    3: [gathered, reduced]})
        page = self.space.path / "page.html"
        subprocess.run([program.PROGRAM, "report", self.space.path / "stage3", "--output", page], check=True)
        self.assertIn("gradients from ranks", page.read_text())
        self.assertIn(f"{reduced:,}", page.read_text())

    def test_the_first_rank_speaks_and_writes_for_all(self) -> None:
        self.space.write("ds.json", {**IN_FP32, "bf16": {"enabled": True}})
        ends = self.trained(2, {"--steps": 4, "--sample": 8})
        self.assertIn("step:", ends[0][1])
        self.assertIn("Sample", ends[0][1])
        self.assertIn("accumulation 3, 2 ranks", ends[0][2])
        self.assertEqual(ends[1][1:], ("", ""))
        names = sorted(file.name for file in self.space.output.iterdir())
        self.assertEqual(names, ["README.md", "config.json", "ds_config.json", "metrics.jsonl",
                                 "model.safetensors", "runs", "train_results.json"])
        again = self.space.path / "again"
        self.trained(2, {"--model-config": None, "--model": self.space.output, "--output": again})
        self.assertLess(abs(self.metrics(again, "loss")[0] - self.metrics(self.space.output, "loss")[-1]), 0.5)

    def test_counts_what_all_ranks_do(self) -> None:
        self.space.write("ds.json", IN_FP32)
        self.trained(2, {"--steps": 12})
        one = self.space.path / "one"
        self.finetune({"--steps": 12, "--output": one})
        for key in ("read_bytes", "written_bytes"):  # the last update may fall behind the last line
            of_one, of_two = (sum(self.metrics(output, key)) for output in (one, self.space.output))
            self.assertGreater(of_two, 0.8 * of_one, key)
        tokens = [rate * seconds for rate, seconds in zip(self.metrics(self.space.output, "tokens_per_second"),
                                                          self.metrics(self.space.output, "step_seconds"))]
        for count in tokens:
            self.assertAlmostEqual(count, 12 * 32, delta=1)

    def test_runs_that_differ_are_refused_on_all_ranks(self) -> None:
        self.space.write("other.txt", program.TEXT.replace("sea", "see", 1))
        other = {**program.EVERYTHING_ON_NVME, "optimizer": {"type": "AdamW", "params": {"lr": 2e-2}}}
        self.space.write("other.json", other)
        for changes, word in (({"--steps": 3}, "the number of steps is 3 on rank 1 and 2 on rank 0"),
                              ({"--seed": 9}, "--seed is 9 on rank 1"),
                              ({"--data": "other.txt"}, "the data to train on is"),
                              ({"--config": "other.json"}, "optimizer.params.lr")):
            for code, _, err in self.ends_of(self.start(2, {"--steps": 2}, {1: changes})):
                self.assertEqual(code, 2, err)
                self.assertIn(word, err)
            self.assertFalse(self.space.output.exists())
        for name in ("other.txt", "other.json"):
            (self.space.path / name).unlink()
        self.nothing_is_left()

    def wait_for_a_step(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            if "step:" in line:
                return
        self.fail("no step was made: " + process.stderr.read())

    def test_a_rank_that_is_killed_ends_the_others(self) -> None:
        processes = self.start(2, {"--steps": 1000000})
        self.wait_for_a_step(processes[0])
        processes[1].kill()
        killed = time.monotonic()
        code, _, err = self.ends_of(processes)[0]
        self.assertLess(time.monotonic() - killed, 10)
        self.assertEqual(code, 1, err)
        self.assertIn("rank 0: rank 1 died", err)
        self.nothing_is_left()

    def test_ranks_that_are_interrupted_leave_nothing(self) -> None:
        processes = self.start(2, {"--steps": 1000000})
        self.wait_for_a_step(processes[0])
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for code, _, err in self.ends_of(processes):
            self.assertEqual(code, 130, err)
        self.nothing_is_left()

    def test_its_time_is_up_on_all_ranks_after_the_same_step(self) -> None:
        self.trained(2, {"--steps": 1000000, "--max-minutes": 0.01})
        self.assertTrue((self.space.output / "model.safetensors").exists())


if __name__ == "__main__":
    unittest.main()
