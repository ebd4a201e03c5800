"""Holds that `strata generate` makes the tokens of transformers' generate, for models of every type.

Usage: parity_test.py PROGRAM. Exits with 77 where transformers is missing.

Every model is random and tiny, made by transformers' class, in fp32. The prompts have unequal lengths
and go through our program as one batch, from nvme under budgets; transformers continues each alone.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

from hugging_face import ONE_BY_ONE, torch, transformers

transformers.utils.logging.set_verbosity_error()
PROGRAM = sys.argv.pop(1)
NEW = 14
LENGTHS = (11, 1, 6, 2, 11, 17)

SIZES = dict(vocab_size=61, hidden_size=24, intermediate_size=37, num_hidden_layers=3, num_attention_heads=6,
             num_key_value_heads=2, max_position_embeddings=40, initializer_range=0.3, bos_token_id=1,
             eos_token_id=2, pad_token_id=0, head_dim=8)
GPT2 = dict(vocab_size=61, n_embd=24, n_layer=3, n_head=4, n_positions=40, initializer_range=0.4, bos_token_id=1,
            eos_token_id=2, pad_token_id=0)
LLAMA3 = dict(rope_parameters={"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 16})
CASES = {
    "gpt2": ("gpt2", GPT2),
    "llama": ("llama", {**SIZES, **LLAMA3}),
    "llama_one_head_of_keys": ("llama", {**SIZES, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "mistral": ("mistral", {**SIZES, "sliding_window": None}),
    # Windows that prompts are shorter than, as long as, and longer than; that generation grows beyond.
    "mistral_window": ("mistral", {**SIZES, "sliding_window": 6}),
    "mistral_window_of_one_prompt": ("mistral", {**SIZES, "sliding_window": 11}),
    "mistral_window_that_tokens_reach": ("mistral", {**SIZES, "sliding_window": 20}),
    "qwen2": ("qwen2", SIZES),
    "qwen2_windows": ("qwen2", {**SIZES, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": ("qwen3", {**SIZES, "tie_word_embeddings": True}),
    "smollm3": ("smollm3", {**SIZES, "no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 6}),
    "olmo2": ("olmo2", {**SIZES, "num_attention_heads": 3, "num_key_value_heads": 1}),
    "phi3": ("phi3", {**SIZES, "num_attention_heads": 3, "num_key_value_heads": 1, "sliding_window": 9,
                      "rope_parameters": {"rope_type": "default", "rope_theta": 100.0,
                                          "partial_rotary_factor": 0.5}}),
    "gemma2": ("gemma2", {**SIZES, "query_pre_attn_scalar": 7, "sliding_window": 5, "attn_logit_softcapping": 3.0,
                          "final_logit_softcapping": 2.0}),
    "gemma3_text": ("gemma3_text", {**SIZES, "query_pre_attn_scalar": 11, "sliding_window": 5,
                                    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "mixtral": ("mixtral", {**SIZES, "num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 9}),
    "qwen3_moe": ("qwen3_moe", {**SIZES, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 12,
                                "mlp_only_layers": [1], "norm_topk_prob": True}),
    "gptj": ("gptj", {**GPT2, "n_head": 3, "rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", {**SIZES, "num_attention_heads": 3, "head_dim": None, "rope_parameters": {
        "rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}}),
}


class Case:
    def __init__(self, root, name, seed):
        kind, sizes = CASES[name]
        torch.manual_seed(seed)
        config = transformers.AutoConfig.for_model(kind, **sizes)
        self.model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, **ONE_BY_ONE).eval()
        with torch.no_grad():
            for parameter, value in self.model.named_parameters():
                if parameter.endswith(("norm.weight", "ln_1.weight", "ln_f.weight")):
                    value.normal_(1.0, 0.3)
                elif parameter.endswith("bias"):
                    value.normal_(0.0, 0.3)
        self.path = root / name
        self.model.save_pretrained(self.path)
        self.prompts = [torch.randint(3, config.vocab_size, (length,)).tolist() for length in LENGTHS]
        self.file = root / f"{name}.ids"
        self.write(self.prompts)

    def write(self, prompts):
        self.file.write_text("".join(" ".join(map(str, prompt)) + "\n" for prompt in prompts))

    def expected(self, **options):
        """Each prompt's new tokens by transformers, alone."""
        made = []
        for prompt in self.prompts:
            ids = torch.tensor([prompt])
            out = self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
                                      **options)
            made.append(out[0, len(prompt):].tolist())
        return made

    def ours(self, *options):
        result = subprocess.run(
            [PROGRAM, "generate", "--model", self.path, "--tokens", self.file, "--max-new-tokens", str(NEW), "--json",
             *options], capture_output=True, text=True, timeout=100, check=False)
        if result.returncode != 0:
            raise AssertionError(result.stderr)
        return [json.loads(line) for line in result.stdout.splitlines()]


class Parity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.directory.name)
        (cls.root / "nvme").mkdir()
        cls.cases = {name: Case(cls.root, name, seed) for seed, name in enumerate(CASES)}

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def test_the_likeliest_tokens_are_those_of_transformers(self):
        for name, case in self.cases.items():
            with self.subTest(name):
                expected = case.expected(eos_token_id=None)
                self.assertGreater(len({token for tokens in expected for token in tokens}), 8, "a dull model")
                on_nvme = case.ours("--ignore-eos", "--nvme", self.root / "nvme", "--budget", "host=64MiB,device=8MiB")
                self.assertEqual([line["tokens"] for line in on_nvme], expected)
                self.assertEqual([line["prompt_tokens"] for line in on_nvme], case.prompts)
                self.assertEqual({line["finish_reason"] for line in on_nvme}, {"length"})
                in_memory = case.ours("--ignore-eos")
                self.assertEqual(in_memory, on_nvme)

    def test_texts_end_where_those_of_transformers_do(self):
        for name in ("gpt2", "llama", "mistral_window", "qwen3"):
            with self.subTest(name):
                case = self.cases[name]
                # Two tokens that this model comes to: in the middle of a text, and at once.
                free = case.expected(eos_token_id=None)
                stops = [free[0][5], free[3][0]]
                config = case.path / "generation_config.json"
                before = config.read_text()
                config.write_text(json.dumps({**json.loads(before), "eos_token_id": stops}))
                ours = case.ours()
                config.write_text(before)
                expected = case.expected(eos_token_id=stops)
                self.assertEqual([line["tokens"] for line in ours], expected)
                for line in ours:
                    ended = line["tokens"][-1] in stops
                    self.assertEqual(line["finish_reason"], "eos" if ended else "length")
                self.assertEqual(ours[3]["tokens"], [free[3][0]])

    def test_a_batch_has_the_tokens_of_prompts_one_by_one_and_of_turns(self):
        case = self.cases["mistral_window"]
        options = ("--temperature", "0.9", "--top-p", "0.9", "--top-k", "20", "--seed", "5")
        together = case.ours(*options)
        self.assertEqual(together, case.ours(*options))
        # Keys and values of a row: 3 layers of 2 x 2 heads of 8 numbers, for the longest prompt and what follows.
        row = 3 * 2 * 2 * 8 * 4 * (max(LENGTHS) + NEW + 1)
        self.assertEqual(together, case.ours(*options, "--kv-budget", str(row)))
        self.assertEqual(together, case.ours(*options, "--kv-budget", str(3 * row)))
        self.assertNotEqual(together, case.ours(*options[:-1], "6"))
        case.write(case.prompts[:1])
        self.assertEqual(together[:1], case.ours(*options))
        case.write(case.prompts)

    def test_bf16_is_computed_where_the_model_says_so(self):
        case = self.cases["qwen2"]
        model = transformers.AutoModelForCausalLM.from_pretrained(case.path, dtype=torch.bfloat16)
        path = self.root / "bf16"
        model.save_pretrained(path)
        result = subprocess.run([PROGRAM, "generate", "--model", path, "--tokens", case.file, "--max-new-tokens", "2"],
                                capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("bf16", result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), len(LENGTHS))


if __name__ == "__main__":
    unittest.main()
