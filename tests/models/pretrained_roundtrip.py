"""Holds that transformers and we read each other's model directories, to equal logits.

Usage: pretrained_roundtrip.py PRETRAINED_PROGRAM. Exits with 77 where transformers is missing.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

from hugging_face import safetensors, torch, transformers

PROGRAM = sys.argv.pop(1)
TOLERANCE = 1e-5
EVERYTHING = 10**9  # bytes in one file


class Roundtrip(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name) / "model"
        torch.manual_seed(1)

    def run_program(self, *arguments):
        subprocess.run([PROGRAM, *map(str, arguments)], check=True, timeout=120)

    def our_logits(self, config):
        file = self.directory.parent / "logits.bin"
        self.run_program("logits", self.directory, file)
        shape = (2, config.n_positions, config.vocab_size)
        return torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.float32).view(shape)

    def assert_equal_logits(self, model):
        config = model.config
        tokens = torch.arange(2 * config.n_positions) * 7 % config.vocab_size
        with torch.no_grad():
            expected = model.eval().float()(tokens.view(2, -1)).logits
        difference = (self.our_logits(config) - expected).abs().max().item()
        self.assertGreater(expected.std().item(), 0.05)  # the comparison means something
        self.assertLess(difference, TOLERANCE)


class TransformersLoadsOurs(Roundtrip):
    def check(self, head, precision, file_bytes_max):
        self.run_program("save", self.directory, head, precision, file_bytes_max)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            self.directory, output_loading_info=True
        )
        self.assertFalse(info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"], info)
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.assertEqual(model.dtype, dtypes[precision])
        self.assert_equal_logits(model)

    def test_tied(self):
        self.check("tied", "fp32", EVERYTHING)

    def test_untied(self):
        self.check("untied", "fp32", EVERYTHING)

    def test_bf16(self):
        self.check("tied", "bf16", EVERYTHING)

    def test_fp16(self):
        self.check("untied", "fp16", EVERYTHING)

    def test_several_files(self):
        self.check("tied", "fp32", 10_000)
        self.assertGreater(len(list(self.directory.glob("model-*-of-*.safetensors"))), 1)


class WeLoadTransformers(Roundtrip):
    def config(self, **changes):
        sizes = dict(vocab_size=41, n_positions=24, n_embd=16, n_layer=3, n_head=2)
        return transformers.GPT2Config(initializer_range=0.2, bos_token_id=0, eos_token_id=0, **sizes, **changes)

    def test_tied(self):
        model = transformers.GPT2LMHeadModel(self.config())
        model.save_pretrained(self.directory)
        self.assert_equal_logits(model)

    def test_untied_with_other_sizes(self):
        model = transformers.GPT2LMHeadModel(
            self.config(tie_word_embeddings=False, n_inner=40, activation_function="gelu")
        )
        model.save_pretrained(self.directory)
        self.assert_equal_logits(model)

    def test_half_precision_in_several_files(self):
        for dtype in (torch.bfloat16, torch.float16):
            model = transformers.GPT2LMHeadModel(self.config()).to(dtype)
            self.directory = self.directory.with_name(f"model-{dtype}")
            model.save_pretrained(self.directory, max_shard_size="8KB")
            self.assertTrue((self.directory / "model.safetensors.index.json").exists())
            self.assert_equal_logits(model)

    def rewrite_weights(self, change):
        """Gives the tensors of the saved file to `change`, which puts others in their place."""
        file = self.directory / "model.safetensors"
        weights = safetensors.torch.load_file(file)
        change(weights)
        safetensors.torch.save_file(weights, file, metadata={"format": "pt"})

    def loaded_by_transformers(self):
        return transformers.AutoModelForCausalLM.from_pretrained(self.directory, dtype=torch.float32)

    def test_a_head_that_differs_from_the_embedding_to_which_it_is_tied(self):
        transformers.GPT2LMHeadModel(self.config()).save_pretrained(self.directory)
        self.rewrite_weights(lambda weights: weights.update(
            {"lm_head.weight": weights["transformer.wte.weight"].flip(0).contiguous()}))
        self.assert_equal_logits(self.loaded_by_transformers())

    def test_a_head_in_the_place_of_the_embedding(self):
        transformers.GPT2LMHeadModel(self.config()).save_pretrained(self.directory)
        expected = self.loaded_by_transformers()
        self.rewrite_weights(lambda weights: weights.update(
            {"lm_head.weight": weights.pop("transformer.wte.weight")}))
        self.assert_equal_logits(expected)

    def test_names_without_prefix(self):
        model = transformers.GPT2LMHeadModel(self.config())
        model.transformer.save_pretrained(self.directory)
        self.assert_equal_logits(model)


class WhatWeDoNotKnowIsCarriedOver(Roundtrip):
    def test_config_generation_config_and_chat_template(self):
        config = transformers.GPT2Config(
            vocab_size=41, n_positions=24, n_embd=16, n_layer=3, n_head=2, initializer_range=0.2,
            bos_token_id=0, eos_token_id=[0, 1], pad_token_id=40, id2label={0: "A", 1: "B"},
            task_specific_params={"text-generation": {"do_sample": True}}, custom_key={"deep": [1]})
        model = transformers.GPT2LMHeadModel(config)
        model.generation_config = transformers.GenerationConfig(
            do_sample=True, top_k=7, eos_token_id=[0, 1], pad_token_id=40)
        source = self.directory.parent / "source"
        model.save_pretrained(source)
        (source / "chat_template.jinja").write_text("{{ messages }}")
        self.run_program("copy", source, self.directory)

        again = transformers.AutoModelForCausalLM.from_pretrained(self.directory)
        ours, theirs = again.config.to_dict(), transformers.AutoConfig.from_pretrained(source).to_dict()
        for config in (ours, theirs):
            config.pop("_name_or_path", None)
        self.assertEqual(ours, theirs)
        self.assertEqual(ours["custom_key"], {"deep": [1]})
        self.assertEqual(again.generation_config.to_dict(), model.generation_config.to_dict())
        self.assertEqual((self.directory / "chat_template.jinja").read_text(), "{{ messages }}")
        self.assert_equal_logits(model)

    def test_a_head_of_its_own_stays_one(self):
        config = transformers.GPT2Config(
            vocab_size=41, n_positions=24, n_embd=16, n_layer=1, n_head=2, initializer_range=0.2,
            bos_token_id=0, eos_token_id=0)
        source = self.directory.parent / "source"
        transformers.GPT2LMHeadModel(config).save_pretrained(source)
        weights = safetensors.torch.load_file(source / "model.safetensors")
        weights["lm_head.weight"] = weights["transformer.wte.weight"].flip(0).contiguous()
        safetensors.torch.save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
        self.run_program("copy", source, self.directory)
        again = transformers.AutoModelForCausalLM.from_pretrained(self.directory)
        self.assertTrue(torch.equal(again.lm_head.weight, weights["lm_head.weight"]))
        self.assertFalse(again.config.tie_word_embeddings)


if __name__ == "__main__":
    unittest.main()
