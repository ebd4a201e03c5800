"""Holds that adapters compute, train and are stored as PEFT's.

Usage: lora_parity_test.py PARITY_PROGRAM. Exits with 77 where transformers or peft is missing.

Every case is a random tiny model of transformers with adapters of PEFT, whose B is not zero.
PARITY_PROGRAM computes all of them once. In fp32, against PEFT: logits, loss and the adapters'
gradients, within 2e-5 of the largest number compared; three steps of AdamW in an engine with
everything on nvme against torch.optim.AdamW; and PEFT's logits of the adapter that was written.
"""

import sys
import unittest

import parity_cases
from hugging_face import safetensors, torch, transformers
from parity_cases import SIZES, STEPS, TOLERANCE

try:
    import peft
except ImportError as error:
    print(f"skipped: {error}; tools/setup.sh --test installs it")
    sys.exit(77)

# name: (type, what differs from SIZES, the adapter)
CASES = {
    "llama": ("llama", dict(tie_word_embeddings=True), dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])),
    "llama_everywhere": ("llama", dict(attention_bias=True, mlp_bias=True),
                         dict(r=3, lora_alpha=4.5, target_modules="all-linear")),
    "mistral": ("mistral", dict(sliding_window=5, head_dim=8), dict(r=1, target_modules=["k_proj", "down_proj"])),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True), dict(r=2, target_modules=["self_attn.o_proj", "up_proj"])),
    "qwen3": ("qwen3", dict(head_dim=12), dict(r=40, lora_alpha=10, target_modules=["q_proj", "k_proj"])),
    "smollm3": ("smollm3", dict(no_rope_layers=[1, 0]), dict(target_modules=["gate_proj"])),
    "olmo2": ("olmo2", {}, dict(r=4, target_modules=["q_proj", "o_proj"])),
    "phi3": ("phi3", {}, dict(r=4, target_modules=["qkv_proj", "gate_up_proj"])),
    "gemma2": ("gemma2", dict(head_dim=10), dict(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])),
    "gemma3_text": ("gemma3_text", dict(head_dim=8), dict(r=4, target_modules=["v_proj"])),
    "mixtral": ("mixtral", dict(num_local_experts=5), dict(r=4, target_modules=["k_proj", "v_proj"])),
    "qwen3_moe": ("qwen3_moe", dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=9, mlp_only_layers=[1]),
                  dict(r=4, target_modules=["q_proj", "o_proj"])),
    "gptj": ("gptj", dict(rotary_dim=4, n_inner=37), dict(r=4, target_modules=["q_proj", "fc_in", "out_proj"])),
    "gpt_neox": ("gpt_neox", dict(rope_parameters={"rope_type": "default", "rope_theta": 100.0,
                                                   "partial_rotary_factor": 0.5}, num_attention_heads=3),
                 dict(r=4, target_modules=["query_key_value", "dense", "dense_4h_to_h"])),
}


class Case(parity_cases.Case):
    def __init__(self, root, name, seed):
        kind, changes, adapter = CASES[name]
        torch.manual_seed(seed)
        super().__init__(root / name)
        config = transformers.AutoConfig.for_model(kind, **{**SIZES, **changes})
        transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(self.path / "model")
        self.model = peft.get_peft_model(self.base(), peft.LoraConfig(task_type="CAUSAL_LM", **adapter))
        with torch.no_grad():
            for key, parameter in self.model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(0.0, 0.2)
        self.model.save_pretrained(self.path / "adapter")
        self.draw_tokens(config.vocab_size)

    def base(self):
        return self.loaded("model", dtype=torch.float32)

    def logits(self, model):
        with torch.no_grad():
            return model(self.tokens(), use_cache=False).logits


def trained_names(model):
    """The adapters' parameters by the names that they have in files, without PEFT's prefix."""
    return {key.removeprefix("base_model.model.").replace(".default.", "."): value
            for key, value in model.named_parameters() if value.requires_grad}


class LoraParity(parity_cases.ParityTest):
    @classmethod
    def setUpClass(cls):
        cls.make_cases(Case, CASES)

    def test_logits_loss_and_gradients_are_those_of_peft(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                logits = case.logits(case.model)
                self.assertGreater((logits - case.logits(case.base())).abs().max().item(), 0.01)
                self.assert_close(case.read_logits("logits.bin"), logits, "logits")
                loss = case.loss(case.model)
                self.assert_close(case.read("loss.bin", ()), loss.detach(), "loss")
                loss.backward()
                ours = safetensors.torch.load_file(case.path / "gradients.safetensors")
                theirs = trained_names(case.model)
                self.assertEqual(ours.keys(), theirs.keys())
                for key, parameter in theirs.items():
                    self.assert_close(ours[key], parameter.grad, key)
                case.model.zero_grad()

    def test_steps_in_an_engine_are_those_of_torch_and_peft_loads_what_is_written(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                model = peft.PeftModel.from_pretrained(case.base(), case.path / "adapter", is_trainable=True)
                optimizer = torch.optim.AdamW(trained_names(model).values(), lr=1e-2, weight_decay=0.1)
                losses = []
                for step in range(STEPS):
                    optimizer.zero_grad()
                    loss = case.loss(model, step)
                    losses.append(loss.item())
                    loss.backward()
                    optimizer.step()
                self.assert_close(case.read("losses.bin"), torch.tensor(losses), "losses", 1e-4)
                trained = peft.PeftModel.from_pretrained(case.base(), case.path / "trained", is_trainable=True)
                ours, theirs = trained_names(trained), trained_names(model)
                self.assertEqual(ours.keys(), theirs.keys())
                for key in theirs:
                    self.assertLess((ours[key] - theirs[key]).abs().mean().item(), 1e-4, key)
                self.assert_close(case.read_logits("trained_logits.bin"), case.logits(trained), "logits")

    def test_files_are_those_that_peft_writes(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                ours, theirs = (safetensors.torch.load_file(case.path / directory / "adapter_model.safetensors")
                                for directory in ("trained", "adapter"))
                self.assertEqual({key: value.shape for key, value in ours.items()},
                                 {key: value.shape for key, value in theirs.items()})
                ours, theirs = (peft.LoraConfig.from_pretrained(case.path / directory)
                                for directory in ("trained", "adapter"))
                for key in ("r", "lora_alpha", "lora_dropout", "task_type", "bias", "use_dora", "use_rslora"):
                    self.assertEqual(getattr(ours, key), getattr(theirs, key), key)
                self.assertEqual(set(ours.target_modules), set(theirs.target_modules))

    def test_what_is_merged_computes_what_the_adapter_does(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                merged = case.loaded("merged", dtype=torch.float32)
                self.assert_close(case.logits(merged), case.logits(case.model), "logits", 5 * TOLERANCE)


if __name__ == "__main__":
    unittest.main()
