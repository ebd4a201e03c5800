"""`strata finetune` and `strata plan` on a tiny model of each type.

Usage: model_types_test.py PROGRAM
"""

import json
import pathlib
import re
import shutil
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
OTHERS = {"vision_tower.embedding.weight": ("F32", [3, 2], bytes(range(24))),
          "multi_modal_projector.places": ("I64", [2], b"\1" * 16)}


def tensors_of(path: pathlib.Path) -> dict:
    """The header of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__")
    return header


def write_tensors(path: pathlib.Path, tensors: dict) -> None:
    """Writes a safetensors file of (dtype, shape, bytes) by name."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path: pathlib.Path) -> dict:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return {name: (tensor["dtype"], tensor["shape"],
                   data[8 + length + tensor["data_offsets"][0]:8 + length + tensor["data_offsets"][1]])
            for name, tensor in tensors_of(path).items()}


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

    def put_into_a_larger_one(self, source: pathlib.Path, name) -> pathlib.Path:
        """The same model within one that also has other tensors, in two files."""
        whole = self.space.path / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        files = {"model-00001-of-00002.safetensors": {"multi_modal_projector.places": OTHERS["multi_modal_projector.places"],
                                                      **{name(key): tensor for key, tensor in
                                                         read_tensors(source / "model.safetensors").items()}},
                 "model-00002-of-00002.safetensors": {key: OTHERS[key] for key in list(OTHERS)[:1]}}
        for file, tensors in files.items():
            write_tensors(whole / file, tensors)
        self.space.write("whole/model.safetensors.index.json", {"metadata": {}, "weight_map": {
            key: file for file, tensors in files.items() for key in tensors}})
        inner = json.loads((source / "config.json").read_text())
        del inner["torch_dtype"]
        self.space.write("whole/config.json", {
            "model_type": "gemma3", "torch_dtype": "bfloat16", "tie_word_embeddings": inner.pop("tie_word_embeddings"),
            "text_config": inner, "vision_config": {"hidden_size": 3}, "z_custom": 1.5})
        return whole

    def test_a_language_model_within_a_larger_one_is_trained_and_all_else_is_kept(self) -> None:
        source = self.make("qwen2")
        changes = {"--model-config": None, "--steps": 3, "--tokenizer": "bytes"}
        self.finetune({**changes, "--model": source})
        expected, losses = read_tensors(self.space.output / "model.safetensors"), self.losses(self.space.output)
        for name in (lambda key: f"language_model.{key}",
                     lambda key: key.replace("model.", "model.language_model.", 1)):
            with self.subTest(name("model.norm")):
                whole, out = self.put_into_a_larger_one(source, name), self.space.path / "out"
                shutil.rmtree(out, ignore_errors=True)
                self.finetune({**changes, "--model": whole, "--output": out})
                self.assertEqual(self.losses(out), losses)
                for file in ("config.json", "model.safetensors.index.json"):
                    before, after = (json.loads((path / file).read_text()) for path in (whole, out))
                    after.get("metadata", {}).clear()
                    self.assertEqual(before, after)
                written = {key: tensor for file in sorted(out.glob("*.safetensors"))
                           for key, tensor in read_tensors(file).items()}
                self.assertEqual(written, {**OTHERS, **{name(key): tensor for key, tensor in expected.items()}})

    def test_of_a_larger_model_what_cannot_be_kept_is_refused(self) -> None:
        whole = self.put_into_a_larger_one(self.make("qwen2"), lambda key: f"language_model.{key}")
        for changes, word in (({"--model-config": whole / "config.json"}, "--model"),
                              ({"--model": whole, "--model-config": None, "--lora": "r=2"}, "PEFT")):
            refused = self.space.finetune(changes)
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn(word, refused.stderr)
        config = json.loads((whole / "config.json").read_text())
        for change, word in (({"tie_word_embeddings": True, "text_config": {**config["text_config"], "tie_word_embeddings": False}}, "outside"),
                             ({"quantization_config": {}}, "quantized"),
                             ({"text_config": {**config["text_config"], "model_type": "cohere2"}}, "cohere2")):
            self.space.write("whole/config.json", {**config, **change})
            refused = self.space.finetune({"--model": whole, "--model-config": None})
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn(word, refused.stderr)

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
