"""Holds that models of every type compute, train and save what transformers' own classes do.

Usage: parity_test.py PARITY_PROGRAM [SEED]. Exits with 77 where transformers is missing. With a SEED
the models are others, and of other sizes.

Every case is a random tiny model made by transformers, with norms and biases that are not those of
an initialisation. PARITY_PROGRAM computes all of them once. In fp32, against transformers:
logits, loss and every parameter's gradient, within 2e-5 of the largest number compared; and three
steps of AdamW in an engine with everything on nvme against torch.optim.AdamW.
"""

import copy
import json
import sys
import unittest

import parity_cases
from hugging_face import ONE_BY_ONE, safetensors, torch, transformers
from parity_cases import LENGTH, NOTHING, SIZES, STEPS

SEED = int(sys.argv.pop(1)) if sys.argv[1:] and sys.argv[1].isdigit() else 0
if SEED:
    SIZES.update(vocab_size=53, hidden_size=36, intermediate_size=29)


def rope(kind, **parameters):
    return dict(rope_parameters={"rope_type": kind, "rope_theta": 100.0, **parameters})


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=8)

# name: (type, what differs from SIZES)
CASES = {
    "llama": ("llama", dict(pad_token_id=None)),
    "llama_tied_with_all_biases": (
        "llama", dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama_with_wide_heads_and_one_of_keys": (
        "llama", dict(head_dim=10, num_key_value_heads=1, num_attention_heads=3, vocab_size=101)),
    "llama_rope_linear": ("llama", rope("linear", factor=3.0)),
    "llama_rope_dynamic": ("llama", rope("dynamic", factor=2.0)),
    "llama_rope_llama3": ("llama", dict(LLAMA3, head_dim=16)),
    "llama_rope_yarn": ("llama", dict(YARN, head_dim=16)),
    "llama_rope_yarn_with_scales": (
        "llama", dict(rope("yarn", factor=4.0, original_max_position_embeddings=8, beta_fast=4.0,
                           beta_slow=0.5, mscale=0.7, mscale_all_dim=0.9, truncate=False), head_dim=16)),
    "llama_rope_yarn_with_attention_factor": (
        "llama", dict(rope("yarn", factor=2.0, original_max_position_embeddings=8,
                           attention_factor=1.3), head_dim=16)),
    "mistral": ("mistral", dict(sliding_window=None)),
    "mistral_window": ("mistral", dict(sliding_window=5, head_dim=8, tie_word_embeddings=True)),
    "mistral_window_of_one": ("mistral", dict(sliding_window=1)),
    "mistral_window_one_short_of_the_sequence": ("mistral", dict(sliding_window=LENGTH - 1)),
    "mistral_window_of_the_sequence": ("mistral", dict(sliding_window=LENGTH)),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True)),
    "qwen2_window_from_a_layer_on": (
        "qwen2", dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "qwen3": ("qwen3", dict(head_dim=12, num_attention_heads=4, tie_word_embeddings=True, pad_token_id=42)),
    "qwen3_with_biases_and_layer_types": (
        "qwen3", dict(YARN, head_dim=8, attention_bias=True, num_hidden_layers=3, use_sliding_window=True,
                      sliding_window=4,
                      layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "smollm3": ("smollm3", dict(num_hidden_layers=3, no_rope_layers=[1, 0, 1], attention_bias=True, mlp_bias=True,
                                use_sliding_window=True, sliding_window=6)),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", dict(rope("default", partial_rotary_factor=0.5), num_attention_heads=3, num_key_value_heads=1,
                          sliding_window=7)),
    "gemma2": ("gemma2", dict(num_hidden_layers=3, head_dim=10, query_pre_attn_scalar=7, sliding_window=5,
                              attn_logit_softcapping=3.0, final_logit_softcapping=2.0)),
    "gemma3_text": (
        "gemma3_text", dict(num_hidden_layers=3, head_dim=8, query_pre_attn_scalar=11, sliding_window=5,
                            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                            rope_parameters={
                                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 300.0},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}})),
    "mixtral": ("mixtral", dict(num_local_experts=5, num_experts_per_tok=2, head_dim=10)),
    "mixtral_experts_that_no_token_chooses": (
        "mixtral", dict(num_local_experts=40, num_experts_per_tok=2, sliding_window=5, tie_word_embeddings=True)),
    "qwen3_moe": ("qwen3_moe", dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=11, head_dim=10)),
    "qwen3_moe_blocks_without_experts": (
        "qwen3_moe", dict(YARN, num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3], num_experts=24,
                          num_experts_per_tok=2, norm_topk_prob=True, moe_intermediate_size=13, attention_bias=True,
                          head_dim=16, use_sliding_window=True, sliding_window=6)),
    "gptj": ("gptj", dict(num_attention_heads=3, rotary_dim=4, n_inner=37)),
    "gpt_neox": ("gpt_neox", dict(rope("default", partial_rotary_factor=0.5), num_attention_heads=3)),
    "gpt_neox_one_after_the_other": (
        "gpt_neox", dict(rope("linear", factor=2.0, partial_rotary_factor=1.0), use_parallel_residual=False,
                         attention_bias=False, hidden_act="gelu_new")),
    "llama_with_a_head_of_its_own_though_tied": ("llama", dict(tie_word_embeddings=True)),
    "qwen2_saved_from_torch_compile": ("qwen2", {}),
    "qwen3_saved_without_its_head": ("qwen3", dict(tie_word_embeddings=True, head_dim=8)),
}
# name: what is done to the names and tensors of the file
REWRITES = {
    "llama_with_a_head_of_its_own_though_tied": lambda tensors: {
        **tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].flip(0).contiguous()},
    "qwen2_saved_from_torch_compile": lambda tensors: {
        f"_orig_mod.{name}": value for name, value in tensors.items()},
    # As transformers calls the head in memory, and with the buffers that its old versions stored.
    "gpt_neox_one_after_the_other": lambda tensors: {
        **{name.replace("embed_out.", "lm_head."): value for name, value in tensors.items()},
        "gpt_neox.layers.1.attention.bias": torch.ones(1, 1, 32, 32, dtype=torch.bool),
        "gpt_neox.layers.1.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.1.attention.rotary_emb.inv_freq": torch.ones(2)},
    "qwen3_saved_without_its_head": lambda tensors: {
        name.removeprefix("model."): value for name, value in tensors.items()},
}
OWN_HEAD = "llama_with_a_head_of_its_own_though_tied"
SHARDED = "llama_with_wide_heads_and_one_of_keys"
NORMS = ("norm.weight", "ln_1.weight", "ln_f.weight")
OLD_SPELLING = ("llama_rope_llama3", "qwen2", "mistral_window")


# The matrices of an expert in files, gate, up and down: in memory all experts' are in one tensor.
EXPERTS = {"mixtral": ("w1", "w3", "w2"), "qwen3_moe": ("gate_proj", "up_proj", "down_proj")}


def as_in_files(kind, tensors):
    """Views of tensors by the names that they have in files."""
    if kind not in EXPERTS:
        # GPT-NeoX's head has another name in files than in memory.
        return {name.replace("lm_head.", "embed_out.") if kind == "gpt_neox" else name: value
                for name, value in tensors.items()}
    gate, up, down = EXPERTS[kind]
    result = {}
    for name, value in tensors.items():
        name = name.replace(".mlp.", ".block_sparse_moe.") if kind == "mixtral" else name
        prefix, _, last = name.rpartition(".")
        if not prefix.endswith(".experts"):
            result[name] = value
            continue
        for number, matrix in enumerate(value):
            parts = dict(zip((gate, up), matrix.chunk(2))) if last == "gate_up_proj" else {down: matrix}
            result.update({f"{prefix}.{number}.{part}.weight": view for part, view in parts.items()})
    return result


class Trainer:
    """AdamW of a model's parameters as files have them: one without a gradient, as an expert's that no token
    has chosen, is left out."""

    def __init__(self, kind, model):
        self.kind, self.model = kind, model
        self.views = as_in_files(kind, {name: value.data for name, value in model.named_parameters()})
        self.parameters = {name: torch.nn.Parameter(view.clone()) for name, view in self.views.items()}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=1e-2, weight_decay=0.1)
        self.largest = {name: torch.zeros_like(view) for name, view in self.views.items()}

    def step(self, loss):
        self.model.zero_grad()
        loss.backward()
        for name, gradient in gradients_of(self.kind, self.model).items():
            self.parameters[name].grad = gradient
            if gradient is not None:
                torch.maximum(self.largest[name], gradient.abs(), out=self.largest[name])
        self.optimizer.step()
        for name, view in self.views.items():
            view.copy_(self.parameters[name].data)


def gradients_of(kind, model):
    """By names in files; None for an expert that no token has chosen."""
    gradients = as_in_files(kind, {name: value.grad for name, value in model.named_parameters()})
    return {name: None if ".experts." in name and not gradient.any() else gradient
            for name, gradient in gradients.items()}


def make_model(kind, changes, seed):
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **copy.deepcopy({**SIZES, **changes}))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, **ONE_BY_ONE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(NORMS):
                parameter.normal_(1.0, 0.3)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.3)
    return model


def in_old_spelling(config):
    """What transformers 4 wrote."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **parameters}
    config["torch_dtype"] = config.pop("dtype")
    return config


class Case(parity_cases.Case):
    """A model of transformers, its inputs, and what our program makes of them."""

    def __init__(self, root, name, seed):
        self.kind, changes = CASES[name]
        super().__init__(root / name)
        self.model = make_model(self.kind, changes, seed)
        source = self.path / "model"
        self.model.save_pretrained(source, max_shard_size="9KB" if name == SHARDED else "1GB")
        (source / "tokenizer.json").write_text('{"made": "by hand"}')
        (source / "chat_template.jinja").write_text("{{ messages }}")
        config = json.loads((source / "config.json").read_text())
        config["custom_key"] = {"deep": [1]}
        if name in OLD_SPELLING:
            config = in_old_spelling(config)
        (source / "config.json").write_text(json.dumps(config, indent=2))
        if name in REWRITES:
            file = source / "model.safetensors"
            safetensors.torch.save_file(
                REWRITES[name](safetensors.torch.load_file(file)), file, metadata={"format": "pt"})
        if name == OWN_HEAD:
            self.model = self.loaded("model", dtype=torch.float32)
        self.draw_tokens(self.model.config.vocab_size)


class Parity(parity_cases.ParityTest):
    @classmethod
    def setUpClass(cls):
        cls.make_cases(Case, CASES, SEED)

    def test_logits_loss_and_gradients_are_those_of_transformers(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                logits = case.model(case.tokens(), use_cache=False).logits.detach()
                self.assertGreater(logits.std().item(), 0.1)
                self.assert_close(case.read_logits("logits.bin"), logits, "logits")
                loss = case.loss(case.model)
                self.assert_close(case.read("loss.bin", ()), loss.detach(), "loss")
                loss.backward()
                ours = safetensors.torch.load_file(case.path / "gradients.safetensors")
                theirs = {key: gradient for key, gradient in gradients_of(case.kind, case.model).items()
                          if gradient is not None}
                self.assertEqual("lm_head.weight" in theirs or "embed_out.weight" in theirs,
                                 name == OWN_HEAD or not case.model.config.tie_word_embeddings)
                self.assertEqual(ours.keys(), theirs.keys())
                for key, gradient in theirs.items():
                    self.assert_close(ours[key], gradient, key)
                case.model.zero_grad()

    def test_bf16_is_as_near_to_fp32_as_that_of_transformers(self):
        for name, case in self.cases.items():
            if name in REWRITES:
                continue
            with self.subTest(name), torch.no_grad():
                exact = case.model(case.tokens(), use_cache=False).logits
                theirs = case.loaded("model", dtype=torch.bfloat16)(case.tokens(), use_cache=False).logits
                error = (theirs.float() - exact).square().mean().sqrt().item()
                ours = (case.read_logits("logits_bf16.bin") - exact).square().mean().sqrt().item()
                self.assertLess(ours, 1.25 * error)

    def test_steps_of_adamw_in_an_engine_are_those_of_torch_and_are_loaded_again(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                model = copy.deepcopy(case.model)
                trainer = Trainer(case.kind, model)
                losses = []
                for step in range(STEPS):
                    loss = case.loss(model, step)
                    losses.append(loss.item())
                    trainer.step(loss)
                self.assert_close(case.read("losses.bin"), torch.tensor(losses), "losses", 1e-4)
                trained, info = transformers.AutoModelForCausalLM.from_pretrained(
                    case.path / "trained", output_loading_info=True, **ONE_BY_ONE)
                self.assertFalse(info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"], info)
                written = as_in_files(case.kind, {key: value.data for key, value in trained.named_parameters()})
                self.assertEqual(written.keys(), trainer.views.keys())
                for key, theirs in trainer.views.items():
                    ours, seen = written[key], trainer.largest[key]
                    # Of what is left of a gradient that is zero (a bias of keys that do not rotate moves all scores
                    # of a query alike) Adam makes steps of any size up to the rate.
                    is_step = (seen == 0) | (seen >= NOTHING)
                    if not is_step.any():
                        continue
                    difference = (ours - theirs).abs()[is_step]
                    self.assertLess(difference.mean().item(), 1e-4, key)
                    self.assertLess(difference.max().item(), 2.1 * STEPS * 1e-2, key)
                with torch.no_grad():
                    logits = trained(case.tokens(), use_cache=False).logits
                self.assert_close(case.read_logits("trained_logits.bin"), logits, "logits of what was written")

    def test_what_came_with_the_model_is_written_back(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                source, trained = case.path / "model", case.path / "trained"
                config = json.loads((source / "config.json").read_text())
                if name == OWN_HEAD:
                    config["tie_word_embeddings"] = False
                self.assertEqual(json.loads((trained / "config.json").read_text()), config)
                for file in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
                    self.assertEqual((trained / file).read_text(), (source / file).read_text())
                if name not in REWRITES:
                    self.assertEqual(self.layout_of(trained), self.layout_of(source))

    @staticmethod
    def layout_of(directory):
        """The tensors of each file, with their shapes."""
        return {file.name: {key: tuple(value.shape) for key, value in safetensors.torch.load_file(file).items()}
                for file in directory.glob("*.safetensors")}

    def test_shards_are_those_of_the_source(self):
        trained = self.cases[SHARDED].path / "trained"
        self.assertGreater(len(list(trained.glob("model-*-of-*.safetensors"))), 2)
        index = json.loads((trained / "model.safetensors.index.json").read_text())
        source = json.loads((self.cases[SHARDED].path / "model" / "model.safetensors.index.json").read_text())
        self.assertEqual(index["weight_map"], source["weight_map"])
        self.assertEqual(index["metadata"]["total_size"], source["metadata"]["total_size"])


if __name__ == "__main__":
    unittest.main()
