"""Every bad input ends with one clear error, a non-zero exit and nothing in the output.

Each case changes one thing of a run that works. Usage: bad_input_test.py PROGRAM
"""

import copy
import gzip
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import unittest
from typing import Any

import program

FAILED, USAGE, BUDGET = 1, 2, 3


def config_with(**changes: Any) -> dict:
    return {**copy.deepcopy(program.EVERYTHING_ON_NVME), **changes}


def safetensors(header: Any, data: bytes = b"", header_bytes: int = -1) -> bytes:
    """A file whose header is as given, and may lie about its own length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if header_bytes < 0 else header_bytes) + text + data


def tensor(begin: int, end: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def index(**weight_map: str) -> dict:
    return {"metadata": {}, "weight_map": weight_map}


def wide_model(state_bytes: int) -> dict:
    """A model whose state in bf16, with Adam's, is about so many bytes."""
    width = 1600
    return {**program.TINY_MODEL, "n_embd": width, "n_head": 25,
            "n_layer": state_bytes // (12 * width * width * 12) + 1}


class BadInput(program.WorkspaceTest):
    def refused(self, code: int, words: list, changes: dict, **options: Any) -> None:
        """Runs with `changes` and expects exit `code`, every one of `words`, and no output."""
        before = {entry.name for entry in self.space.path.iterdir()}
        result = self.space.finetune(changes, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        errors = [line for line in result.stderr.splitlines() if line.startswith("strata: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertEqual({entry.name for entry in self.space.path.iterdir()}, before)
        self.assertEqual(list((self.space.path / "nvme").iterdir()), [])

    def config_refused(self, code: int, words: list, config: Any, changes: dict = {}) -> None:
        self.space.write("ds.json", config)
        self.refused(code, words, changes)

    def model_refused(self, words: list, files: dict) -> None:
        for name, content in {"config.json": program.TINY_MODEL, **files}.items():
            self.space.write(f"model/{name}", content)
        self.refused(FAILED, words, {"--model-config": None, "--model": "model"})

    # ---- command line ------------------------------------------------------------------------

    def test_command_line(self) -> None:
        for words, changes in [
            (["--data", "--help"], {"--data": None}),
            (["--config"], {"--config": None}),
            (["--output"], {"--output": None}),
            (["--model", "--preset"], {"--model-config": None}),
            (["--preset", "--model-config"], {"--preset": "gpt2"}),
            (["gpt-lite", "no-such"], {"--model-config": None, "--preset": "no-such"}),
            (["--stepps"], {"--stepps": "3"}),
            (["--steps"], {"--steps": "many"}),
            (["--steps"], {"--steps": "0"}),
            (["--steps"], {"--steps": str(10**20)}),
            (["--seed"], {"--seed": "-1"}),
            (["--data", "empty"], {"--data": ""}),
            (["--output", "empty"], {"--output": ""}),
            (["--nvme", "empty"], {"--nvme": ""}),
            (["text.txt"], {"--nvme": "nvme", "text.txt": True}),
            (["--eval-every", "--val-fraction"], {"--eval-every": "1"}),
            (["--prompt", "--sample"], {"--prompt": "She"}),
            (["--prompt", "empty"], {"--prompt": "", "--sample": "1"}),
            (["--temperature"], {"--temperature": "-1", "--sample": "1"}),
            (["--temperature"], {"--temperature": "nan", "--sample": "1"}),
            (["--seq-len", "33", "32"], {"--seq-len": "33"}),
            (["--val-fraction"], {"--val-fraction": "2"}),
            (["--val-data"], {"--val-data": "text.txt", "--val-fraction": "0.1"}),
            (["--budget", "disk=1GiB", "host=4GiB"], {"--budget": "disk=1GiB"}),
            (["--budget", "lots"], {"--budget": "host=lots"}),
            (["--trace", "3-5", "steps=3-5"], {"--trace": "3-5"}),
            (["--trace", "before", "steps=3-5"], {"--trace": "steps=5-3", "--steps": "9"}),
            (["--trace", "step 2", "from 1 to 1"], {"--trace": "steps=1-2"}),
        ]:
            with self.subTest(changes=changes):
                self.refused(USAGE, words, changes)

    def test_no_subcommand(self) -> None:
        result = subprocess.run([program.PROGRAM], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, USAGE)
        self.assertIn("--help", result.stderr)

    # ---- config ------------------------------------------------------------------------------

    def test_config_file(self) -> None:
        self.refused(FAILED, ["missing.json", "No such file"], {"--config": "missing.json"})
        for words, config in [
            (["ds.json:1"], "{"),
            (["ds.json:1", "more text"], '{"train_batch_size": 8}}'),
            (["ds.json:2", "train_batch_sise", "train_batch_size"], '{\n"train_batch_sise": 8}'),
            (["train_batch_size"], '{"train_batch_size": 8, "train_batch_size": 4}'),
            (["train_batch_size", "string"], config_with(train_batch_size="eight")),
            (["optimizer.params.lr"], config_with(
                optimizer={"type": "AdamW", "params": {"lr": "fast"}})),
            (["stage", "9"], config_with(zero_optimization={"stage": 9})),
            (["ds.json:1: max_grad_norm", "gradient_clipping", "ds.json:1: aio.depth"],
             config_with(max_grad_norm=1, aio={"depth": 8})),
            (["8", "4", "3", "12"], config_with(gradient_accumulation_steps=3)),
            (["8", "multiple", "3"], config_with(train_micro_batch_size_per_gpu=3)),
            (["memory", "train_micro_batch_size_per_gpu"], {
                "train_micro_batch_size_per_gpu": 2**31 - 1}),
        ]:
            with self.subTest(config=config):
                self.config_refused(USAGE, words, config)

    def test_nvme_directories(self) -> None:
        self.refused(USAGE, ["nvme", "--nvme"], {"--nvme": None})
        self.refused(USAGE, ["no/such", "does not exist"], {"--nvme": "no/such"})
        self.refused(USAGE, ["text.txt", "not a directory"], {"--nvme": "text.txt"})
        for path in ("~", "~/nvme", "$HOME/nvme"):
            self.refused(USAGE, [path, "not expanded", "whole path"], {"--nvme": path})
        self.assertFalse((self.space.path / "~").exists())

    def test_a_directory_that_is_mounted_read_only(self) -> None:
        mounts = [mount.split() for mount in pathlib.Path("/proc/mounts").read_text().splitlines()]
        read_only = next((mount[1] for mount in mounts
                          if mount[3].split(",")[0] == "ro" and os.path.isdir(mount[1])), None)
        if read_only is None:
            self.skipTest("nothing is mounted read-only")
        self.refused(USAGE, [read_only, "mounted read-only"], {"--nvme": read_only})

    @unittest.skipIf(os.geteuid() == 0, "root may write anywhere")
    def test_unwritable_directories(self) -> None:
        closed = self.space.path / "closed"
        closed.mkdir(mode=0o500)
        self.refused(USAGE, ["closed", "cannot be written"], {"--nvme": "closed"})
        self.refused(FAILED, ["closed", "Permission denied"], {"--output": "closed/output"})

    def test_a_budget_too_small_names_the_smallest_that_works(self) -> None:
        for budget in ("host=1MiB", "nvme=64KiB", "device=1KiB"):
            with self.subTest(budget=budget):
                tier = budget.split("=")[0]
                self.refused(BUDGET, [tier, "smallest"], {"--budget": budget})

    def test_the_smallest_budget_works_as_it_is_written(self) -> None:
        for tier in ("host", "nvme", "device"):
            with self.subTest(tier=tier):
                refused = self.space.finetune({"--budget": f"{tier}=1"})
                named = re.search(r"smallest that works is (.*?) \(", refused.stderr)
                result = self.space.finetune(
                    {"--budget": f"{tier}={named[1]}", "--output": f"with_{tier}"})
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_output_that_is_there_already_is_left_alone(self) -> None:
        self.space.write("output/precious.txt", "mine")
        self.refused(USAGE, ["output", "not empty"], {})
        self.assertEqual((self.space.output / "precious.txt").read_text(), "mine")
        self.refused(USAGE, ["not a directory"], {"--output": "text.txt"})

    def test_output_that_cannot_be_made(self) -> None:
        self.refused(FAILED, ["/proc/"], {"--output": "/proc/output"})

    def test_a_disk_that_fills_up(self) -> None:
        # No file may grow beyond 64 KiB: the scratch file of the nvme tier cannot be allocated.
        import resource
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        self.refused(FAILED, ["nvme"], {}, preexec_fn=limit)

    # ---- memory and disks --------------------------------------------------------------------

    def test_a_plan_beyond_the_memory_of_the_machine_is_refused(self) -> None:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.space.write("model.json", wide_model(2 * memory))
        in_memory = config_with(zero_optimization={
            "stage": 3, "offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}})
        self.config_refused(BUDGET, ["no host budget is named", "available of", "smallest",
                                     "--budget", "nvme"], in_memory)
        in_memory["strata"] = {"budget": {"host": 16 * memory}}
        self.config_refused(BUDGET, ["the plan takes", "of host memory", "--budget", "nvme"],
                            in_memory)

    def test_a_plan_beyond_the_disk_is_refused_before_anything_is_written(self) -> None:
        self.space.write("model.json", wide_model(2 * shutil.disk_usage(self.space.path).free))
        self.refused(FAILED, ["nvme", "are free", "are missing", "--nvme"],
                     {"--budget": "host=2GiB"})

    # ---- data --------------------------------------------------------------------------------

    def test_data(self) -> None:
        self.refused(FAILED, ["none.txt", "No such file"], {"--data": "none.txt"})
        for words, name, content in [
            (["empty"], "a.txt", ""),
            (["32 tokens", "33", "--seq-len"], "b.txt", "x" * 32),
            (["odd.bin", "whole number"], "odd.bin", b"123"),
            (["token id 256", "beyond", "256"], "c.bin",
             struct.pack("<100H", *([7] * 50 + [256] + [7] * 49))),
            (["wide.bin", ".u32.bin"], "wide.bin", struct.pack("<100I", *([7] * 100))),
            (["token id 70000"], "d.u32.bin", struct.pack("<100I", *([70000] * 100))),
            (["llmc.bin", "truncated"], "llmc.bin",
             struct.pack("<256i", 20240520, 1, 999, *([0] * 253)) + b"\0" * 64),
            (["text.gz", "gzip"], "text.gz", gzip.compress(program.TEXT.encode())),
            (["wide.txt", "UTF-16", "iconv"], "wide.txt", program.TEXT.encode("utf-16")),
            (["ids.dat", "token ids"], "ids.dat", struct.pack("<100H", *([7] * 100))),
            (["eval.bin", "llm.c", "20240522"], "eval.bin",
             struct.pack("<256i", 20240522, 1, 10, *([0] * 253)) + b"\0" * 640),
        ]:
            with self.subTest(name=name):
                self.space.write(name, content)
                self.refused(FAILED, words, {"--data": name})
        self.refused(FAILED, ["text.gz", "gzip"], {"--val-data": "text.gz"})

    def test_a_prompt_is_for_text_and_its_bytes_are_the_models(self) -> None:
        sample = {"--prompt": "Sh\u00e9", "--sample": "1"}
        self.space.write("ids.bin", struct.pack("<100H", *([7] * 100)))
        self.refused(USAGE, ["--prompt", "ids.bin", "token ids"], {"--data": "ids.bin", **sample})
        self.space.write("model.json", {**program.TINY_MODEL, "vocab_size": 128})
        self.refused(USAGE, ["--prompt", "195", "128"], sample)

    def test_text_with_keys_and_punctuation_of_a_format_is_named_in_a_warning(self) -> None:
        self.space.write("data.json", ["She sells sea shells"] * 100)
        result = self.space.finetune({"--data": "data.json"})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stderr, "warning: data.json: is JSON")

    def test_held_out_data(self) -> None:
        self.space.write("short.txt", "x" * 32)
        self.refused(FAILED, ["short.txt", "held-out"], {"--val-data": "short.txt"})
        self.refused(FAILED, ["held-out", "--val-fraction"], {"--val-fraction": "0.001"})

    # ---- models ------------------------------------------------------------------------------

    def test_model_config(self) -> None:
        self.refused(FAILED, ["none.json"], {"--model-config": "none.json"})
        for words, content in [
            (["model.json"], "not JSON"),
            (["model_type", "bert"], {**program.TINY_MODEL, "model_type": "bert"}),
            (["n_head", "n_embd"], {**program.TINY_MODEL, "n_head": 5}),
            (["n_layer"], {**program.TINY_MODEL, "n_layer": "two"}),
            (["n_layer"], {**program.TINY_MODEL, "n_layer": -1}),
        ]:
            with self.subTest(content=content):
                self.space.write("model.json", content)
                self.refused(USAGE, words, {})

    def test_model_directory(self) -> None:
        self.refused(FAILED, ["nowhere"], {"--model-config": None, "--model": "nowhere"})
        self.model_refused(["safetensors"], {})

    def test_malformed_safetensors(self) -> None:
        one = {"wte.weight": tensor(0, 16, [2, 2])}
        for words, content in [
            (["model.safetensors"], b""),
            (["model.safetensors"], b"\x08\0\0"),
            (["model.safetensors"], safetensors(one, b"\0" * 16, header_bytes=1 << 40)),
            (["model.safetensors"], safetensors(one, b"\0" * 16, header_bytes=10)),
            (["model.safetensors"], safetensors(one, b"\0" * 15)),
            (["model.safetensors"], safetensors(one, b"\0" * 17)),
            (["wte.weight"], safetensors({"wte.weight": tensor(0, 16, [2, 3])}, b"\0" * 16)),
            (["wte.weight"], safetensors({"wte.weight": tensor(0, 16, [1 << 62, 1 << 62])},
                                         b"\0" * 16)),
            (["model.safetensors"], safetensors({"a": tensor(0, 16, [4]), "b": tensor(8, 24, [4])},
                                                b"\0" * 24)),
            (["wte.weight"], safetensors(b'{"wte.weight":{},"wte.weight":{}}')),
        ]:
            with self.subTest(content=content[:60]):
                self.model_refused(words, {"model.safetensors": content})

    def test_safetensors_of_another_model(self) -> None:
        self.model_refused(["wpe.weight", "wte.weight"], {
            "model.safetensors": safetensors({"wte.weight": tensor(0, 16, [2, 2])}, b"\0" * 16)})

    def test_a_model_of_which_no_step_can_be_applied_is_not_published(self) -> None:
        self.assertEqual(self.space.finetune({"--output": "model"}).returncode, 0)
        weights = self.space.path / "model" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        header = json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])
        begin, end = header["transformer.wte.weight"]["data_offsets"]
        data = len(content) - max(
            tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
        content[data + begin:data + end] = struct.pack("<H", 0x7f00) * ((end - begin) // 2)  # 1.7e38
        weights.write_bytes(content)
        run = {"--model-config": None, "--model": "model", "--steps": "25"}
        self.refused(FAILED, ["step 1", "the gradient of parameter", "transformer."], run)
        config = {**program.EVERYTHING_ON_NVME, "strata": {"nonfinite": "skip"}}
        self.space.write("ds.json", config)
        self.refused(FAILED, ["no step was applied", "25 steps"], run)

    def test_hostile_index(self) -> None:
        secret = self.space.write("secret.safetensors", safetensors({}, b""))
        for name in ("../secret.safetensors", str(secret), "a/b.safetensors", "..", ""):
            with self.subTest(name=name):
                self.model_refused(["index"], {
                    "model.safetensors.index.json": index(**{"wte.weight": name})})

    def test_index_that_names_a_missing_file(self) -> None:
        self.model_refused(["model-00001-of-00002.safetensors"], {
            "model.safetensors.index.json": index(
                **{"wte.weight": "model-00001-of-00002.safetensors"})})

    def test_index_with_a_duplicate_key(self) -> None:
        self.model_refused(["wte.weight"], {
            "model.safetensors.index.json":
                '{"weight_map": {"wte.weight": "a.safetensors", "wte.weight": "b.safetensors"}}'})


if __name__ == "__main__":
    unittest.main(verbosity=2)
