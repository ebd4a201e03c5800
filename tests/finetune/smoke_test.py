"""The whole of `strata finetune` on a tiny model, with all state on NVMe.

Usage: smoke_test.py PROGRAM
"""

import json
import resource
import signal
import struct
import subprocess
import time
import unittest

import program


def strict_json(text: str):
    """Refuses NaN and Infinity, which Python reads though they are not JSON."""
    def refuse(constant: str):
        raise ValueError(f"{constant} is not JSON")
    return json.loads(text, parse_constant=refuse)


class Smoke(program.WorkspaceTest):
    def test_trains_reports_and_writes_a_model_that_trains_on(self) -> None:
        first = self.finetune({"--steps": 20, "--val-fraction": 0.2, "--eval-every": 10,
                               "--eval-batches": 4, "--sample": 12, "--budget": "host=256MiB"})
        self.check_files()
        self.check_metrics()
        for word in ("step:", "eval:", "Sample", "held-out loss", "peak host", "waited for disk"):
            self.assertIn(word, first.stdout)
        self.assertNotIn("\x1b", first.stdout, "escape sequences off a terminal")
        self.assertEqual(list((self.space.path / "nvme").iterdir()), [], "scratch files are left")

        again = self.space.path / "again"
        self.finetune({"--model-config": None, "--model": self.space.output, "--output": again})
        continued = strict_json((again / "metrics.jsonl").read_text())
        last = self.metrics("loss")[-1]
        self.assertLess(abs(continued["loss"] - last), 0.5, "does not go on where it ended")

    def lines(self) -> list:
        return list(map(strict_json, (self.space.output / "metrics.jsonl").read_text().splitlines()))

    def metrics(self, key: str) -> list:
        return [line[key] for line in self.lines() if key in line]

    def check_files(self) -> None:
        names = sorted(file.name for file in self.space.output.iterdir())
        self.assertEqual(names, ["README.md", "config.json", "ds_config.json", "metrics.jsonl",
                                 "model.safetensors", "runs", "train_results.json"])
        self.assertEqual(strict_json((self.space.output / "config.json").read_text())["n_layer"], 2)
        results = strict_json((self.space.output / "train_results.json").read_text())
        self.assertEqual(results["global_step"], 20)
        self.assertLessEqual(results["host_bytes_peak"], results["host_bytes_budget"])

    def check_metrics(self) -> None:
        losses = self.metrics("loss")
        self.assertEqual(len(losses), 20)
        self.assertLess(losses[-1], losses[0] - 1.0, "the loss does not fall")
        evaluations = self.metrics("eval_loss")
        self.assertEqual(len(evaluations), 3, "before, in the middle, after")
        self.assertLess(evaluations[-1], evaluations[0] - 1.0)
        for key in ("grad_norm", "learning_rate", "tokens_per_second", "host_bytes"):
            self.assertTrue(all(value > 0 for value in self.metrics(key)), key)
        for key in ("read_bytes", "written_bytes"):  # an update may fall into the next step's line
            self.assertGreater(sum(self.metrics(key)), 0, key)
        self.assertTrue(all(0 <= share <= 1 for share in self.metrics("wait_share")))
        self.assertTrue(all(0 < share <= 1 for share in self.metrics("bound_share")))
        self.assertLessEqual(set(self.metrics("binds")), {"compute", "disk"})

    def test_tensorboard_shows_what_the_metrics_say(self) -> None:
        self.finetune({"--steps": 5, "--val-fraction": 0.2, "--eval-every": 2})
        shown = program.scalars_in_tensorboard(self, self.space.output / "runs")
        for tag, key in (("train/loss", "loss"), ("train/grad_norm", "grad_norm"),
                         ("train/learning_rate", "learning_rate"), ("eval/loss", "eval_loss")):
            told = [(line["step"], struct.unpack("f", struct.pack("f", line[key]))[0])
                    for line in self.lines() if key in line]
            self.assertEqual(told, shown[tag], tag)

    def test_the_model_card_says_what_was_trained_on_what_and_names_no_path(self) -> None:
        self.finetune({"--steps": 3, "--seed": 21})
        card = (self.space.output / "README.md").read_text()
        head = card.split("---\n")[1]
        for line in ("library_name: transformers", "pipeline_tag: text-generation", "- gpt2"):
            self.assertIn(line, head.splitlines())
        for fact in ("text.txt", "3 steps of 8 sequences of 32 tokens", "| seed | 21 |"):
            self.assertIn(fact, card)
        config = strict_json(card.split("```json\n")[1].split("```")[0])
        self.assertEqual(config["optimizer"]["params"]["lr"], 1e-2)
        self.assertNotIn(str(self.space.path), card)

    def test_the_same_seed_gives_the_same_losses_and_model(self) -> None:
        outputs = [self.space.path / name for name in ("a", "b", "c")]
        for output, seed in zip(outputs, (5, 5, 6)):
            self.finetune({"--output": output, "--seed": seed, "--steps": 3})
        models = [(output / "model.safetensors").read_bytes() for output in outputs]
        self.assertEqual(models[0], models[1])
        self.assertNotEqual(models[0], models[2])

    def test_a_model_in_tiles_learns_as_the_whole_one_does(self) -> None:
        losses = []
        for name, strata in (("whole", {}), ("tiles", {"tile_bytes": "4KiB"})):
            self.space.write("ds.json", {**program.EVERYTHING_ON_NVME, "strata": strata})
            self.space.output = self.space.path / name
            result = self.finetune({"--output": self.space.output, "--steps": 10, "--sample": 4})
            for cut in ("tokens is cut into 4 tiles", "linear layers of each block are cut into"):
                self.assertEqual(cut in result.stderr, name == "tiles", result.stderr)
            losses.append(self.metrics("loss"))
        for whole, tiles in zip(*losses):
            self.assertLess(abs(whole - tiles), 0.05)
        sizes = {(self.space.path / name / "model.safetensors").stat().st_size
                 for name in ("whole", "tiles")}
        self.assertEqual(len(sizes), 1)

    def test_ends_early_when_its_time_is_up(self) -> None:
        result = self.finetune({"--steps": 1000000, "--max-minutes": 0.01})
        steps = self.metrics("step")[-1]
        self.assertLess(steps, 1000000)
        self.assertIn(f"{steps:,} steps", result.stdout)
        self.assertTrue((self.space.output / "model.safetensors").exists())

    def test_print_config_shows_what_is_in_effect_and_goes_no_further(self) -> None:
        result = self.finetune({"--print-config": True, "--model-config": None, "--data": None,
                                "--budget": "host=1GiB"})
        config = strict_json(result.stdout)
        self.assertEqual(config["gradient_accumulation_steps"], 2)
        self.assertEqual(config["strata"]["nvme"], ["nvme"])
        self.assertFalse(self.space.output.exists())

    def test_print_config_says_what_of_a_model_is_cut_and_why(self) -> None:
        for strata, why in (({}, None), ({"tile_bytes": "4KiB"}, "strata.tile_bytes"),
                            ({"budget": {"device": "12KiB"}}, "the device budget has no room")):
            self.space.write("ds.json", {**program.EVERYTHING_ON_NVME, "strata": strata})
            result = self.finetune({"--print-config": True, "--nvme": None})
            self.assertEqual("is cut into" in result.stderr, why is not None, result.stderr)
            self.assertIn(why or "", result.stderr)
            strict_json(result.stdout)
            self.assertFalse(self.space.output.exists())

    def test_what_a_model_directory_has_comes_out_again(self) -> None:
        model = self.space.path / "model"
        self.finetune({"--output": model})
        config = {"z_mine": [1], **strict_json((model / "config.json").read_text()),
                  "eos_token_id": [0, 1], "pad_token_id": 255}
        self.space.write("model/config.json", config)
        for name in ("generation_config.json", "chat_template.jinja", "tokenizer.json", "LICENSE"):
            self.space.write(f"model/{name}", f"of {name}")
        self.finetune({"--model-config": None, "--model": model, "--tokenizer": "bytes"})
        written = strict_json((self.space.output / "config.json").read_text())
        self.assertEqual(list(written), list(config))
        self.assertEqual(written, config)
        self.assertEqual((self.space.output / "chat_template.jinja").read_text(),
                         "of chat_template.jinja")
        self.assertTrue((self.space.output / "generation_config.json").exists())
        results = strict_json((self.space.output / "train_results.json").read_text())
        self.assertEqual(results["skipped_steps"], 0)

    def test_keys_of_a_model_config_come_out_again(self) -> None:
        self.space.write("model.json", {**program.TINY_MODEL, "pad_token_id": 7})
        self.finetune({})
        written = strict_json((self.space.output / "config.json").read_text())
        self.assertEqual(written["pad_token_id"], 7)

    def test_metrics_that_cannot_be_written_cost_neither_run_nor_model(self) -> None:
        limit = 1 << 17  # the model is smaller, a line for each of the steps is more
        self.space.write("ds.json", {**program.EVERYTHING_ON_NVME,
                                     "train_batch_size": 1, "train_micro_batch_size_per_gpu": 1,
                                     "zero_optimization": {"stage": 3}})
        result = self.space.finetune(
            {"--steps": 400},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.count("warning: cannot write"), 1, result.stderr)
        self.assertIn("metrics.jsonl", result.stderr)
        self.assertLess(len(self.metrics("loss")), 400)
        self.assertTrue((self.space.output / "model.safetensors").exists())

    def test_a_reader_that_goes_away_does_not_end_the_run(self) -> None:
        running = self.start("--steps", "30")
        running.stdout.readline()
        running.stdout.close()
        log = running.stderr.read()
        running.stderr.close()
        self.assertEqual(running.wait(timeout=240), 0, log)
        self.assertEqual(len(self.metrics("loss")), 30)

    def test_a_sample_goes_on_from_the_prompt_and_at_temperature_0_needs_no_luck(self) -> None:
        def sample(output: str, **changes):
            options = {"--model-config": None, "--model": self.space.output, "--output": output,
                       "--prompt": "She sells", "--sample": 20, **changes}
            shown = self.finetune(options).stdout.split("\nPrompt\n")[1]
            self.assertTrue(shown.startswith("She sells\n\nSample\n"), shown)
            return shown

        still = {**program.EVERYTHING_ON_NVME, "optimizer": {"type": "AdamW", "params": {"lr": 0}}}
        self.finetune({"--steps": 20})
        self.space.write("ds.json", still)
        likeliest = [sample(f"likeliest{seed}", **{"--seed": seed, "--temperature": 0})
                     for seed in (1, 2)]
        self.assertEqual(likeliest[0], likeliest[1])
        drawn = [sample(f"drawn{seed}", **{"--seed": seed}) for seed in (1, 2)]
        self.assertNotEqual(drawn[0], drawn[1])

    def test_a_sample_that_is_interrupted_does_not_cost_the_model(self) -> None:
        running = self.start("--steps", "1", "--sample", "100000000")
        while not running.stdout.readline().startswith("  output"):
            pass
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
        self.assertEqual(running.returncode, 130)
        self.assertTrue((self.space.output / "model.safetensors").exists())

    def start(self, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [program.PROGRAM, "finetune", "--model-config", "model.json", "--data", "text.txt", "--config",
             "ds.json", "--output", "output", "--nvme", "nvme", *options],
            cwd=self.space.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=program.environment())

    def test_an_interrupted_run_leaves_nothing(self) -> None:
        running = self.start("--steps", "1000000")
        self.assertTrue(running.stdout.readline().startswith("step:"))
        started = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, log = running.communicate(timeout=60)
        self.assertEqual(running.returncode, 130, log)
        self.assertIn("interrupted", log)
        self.assertLess(time.monotonic() - started, 30)
        left = {entry.name for entry in self.space.path.iterdir()}
        self.assertEqual(left, {"nvme", "text.txt", "model.json", "ds.json"})
        self.assertEqual(list((self.space.path / "nvme").iterdir()), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
