"""`strata finetune` and `strata plan` on a tiny model of each type.

Usage: model_types_test.py PROGRAM
"""

import json
import pathlib
import re
import struct
import subprocess
import unittest

import program

SIZES = {
    "vocab_size": 256, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
    "z_custom": {"kept": [1, 2.5]},
}
TYPES = {
    "llama": {"tie_word_embeddings": False,
              "rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 16}},
    "mistral": {"sliding_window": 9, "head_dim": 8, "tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True,
              "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    "smollm3": {"pad_token_id": 0, "no_rope_layers": [1, 0]},
    "olmo2": {},
    "phi3": {"pad_token_id": None, "partial_rotary_factor": 0.67},
    "gemma2": {"head_dim": 8, "sliding_window": 9},
    "gemma3_text": {"head_dim": 8, "sliding_window": 9, "sliding_window_pattern": 2},
    "mixtral": {"num_local_experts": 6, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "mlp_only_layers": [0]},
    "gptj": {"rotary_dim": 4, "n_inner": 40},
    "gpt_neox": {"rotary_pct": 0.67},
}
BUDGET = 3


def tensors_of(path: pathlib.Path) -> dict:
    """The header of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__")
    return header


class ModelTypes(program.WorkspaceTest):
    def make(self, kind: str) -> pathlib.Path:
        """A directory of this type with random weights, trained a little."""
        path = self.space.path / kind
        self.space.write("model.json", {"model_type": kind, **SIZES, **TYPES[kind]})
        self.finetune({"--output": path, "--steps": 2})
        (path / "tokenizer.json").write_text("{}")
        return path

    def losses(self, path: pathlib.Path) -> list:
        lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    def plan(self, *arguments) -> dict:
        machine = pathlib.Path(__file__).parents[2] / "configs/machines/workstation_24gb.json"
        result = subprocess.run(
            [program.PROGRAM, "plan", "--config", "ds.json", "--machine", machine, "--json", *map(str, arguments)],
            cwd=self.space.path, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_each_is_planned_trained_and_written_back(self) -> None:
        for kind in TYPES:
            with self.subTest(kind):
                source = self.make(kind)
                out = self.space.path / f"{kind}-trained"
                self.finetune({"--model-config": None, "--model": source, "--output": out,
                               "--steps": 12, "--sample": 4, "--tokenizer": "bytes"})
                losses = self.losses(out)
                self.assertLess(losses[-1], losses[0] - 0.3, "the loss does not fall")

                before, after = (json.loads((path / "config.json").read_text()) for path in (source, out))
                self.assertEqual(before, after)
                self.assertEqual(after["z_custom"], SIZES["z_custom"])
                self.assertTrue((out / "tokenizer.json").exists())
                tensors, written = (tensors_of(path / "model.safetensors") for path in (source, out))
                self.assertEqual({name: (tensor["dtype"], tensor["shape"]) for name, tensor in tensors.items()},
                                 {name: (tensor["dtype"], tensor["shape"]) for name, tensor in written.items()})

                plan = self.plan("--model", source)
                count = 0
                for tensor in tensors.values():
                    elements = 1
                    for extent in tensor["shape"]:
                        elements *= extent
                    count += elements
                self.assertEqual(plan["model"]["parameters"], count)
                self.assertEqual(plan["model"]["blocks"], 2)
                self.assertEqual(plan["model"]["width"], 24)

    def test_the_smallest_device_budget_works_as_it_is_written(self) -> None:
        source = self.make("mistral")
        changes = {"--model-config": None, "--model": source, "--tokenizer": "bytes"}
        refused = self.space.finetune({**changes, "--budget": "device=1"})
        self.assertEqual(refused.returncode, BUDGET, refused.stderr)
        least = re.search(r"smallest that works is .*? \((\d+) bytes\)", refused.stderr)
        self.assertIsNotNone(least, refused.stderr)
        self.finetune({**changes, "--budget": f"device={least[1]}"})
        results = json.loads((self.space.output / "train_results.json").read_text())
        self.assertLessEqual(results["device_bytes_peak"], int(least[1]))

    def test_a_type_that_is_not_there_is_refused_with_those_that_are(self) -> None:
        self.space.write("model.json", {"model_type": "deepseek_v3", **SIZES})
        refused = self.space.finetune({})
        self.assertEqual(refused.returncode, 2, refused.stderr)
        for word in ("deepseek_v3", "gpt2", *TYPES):
            self.assertIn(word, refused.stderr)


if __name__ == "__main__":
    unittest.main()
