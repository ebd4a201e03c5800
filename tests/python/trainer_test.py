"""transformers' Trainer and accelerate train with the optimizers, and resume from checkpoints.

Usage: trainer_test.py PACKAGE_FOLDER
"""

import os
import sys
import unittest

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TOKENIZERS_PARALLELISM="false")

from package import PackageTest, strata, torch  # noqa: E402

try:
    from accelerate import Accelerator
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
except ImportError as error:
    print(f"skipped: {error}; tools/setup.sh --test installs what is missing")
    sys.exit(77)


def dataset():
    generator = torch.Generator().manual_seed(5)
    rows = torch.randint(0, 100, (32, 16), generator=generator)
    return [{"input_ids": row, "labels": row} for row in rows]


class WithTrainer(PackageTest):
    def train(self, kind, arguments, steps=6, resume=None, dtype=torch.float32, **options):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=100, n_positions=16, n_embd=32, n_layer=2, n_head=2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
        model = GPT2LMHeadModel(config).to(dtype)
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(self.space / "out"), max_steps=steps, save_steps=3,
                per_device_train_batch_size=4, learning_rate=1e-2, weight_decay=0.1,
                warmup_steps=2, report_to=[], disable_tqdm=True, logging_steps=1, seed=1,
                use_cpu=True, **options,
            ),
            train_dataset=dataset(),
            optimizer_cls_and_kwargs=(kind, {"lr": 1e-2, **arguments}),
        )
        trainer.train(resume_from_checkpoint=resume)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        weights = {name: values.detach().clone() for name, values in model.named_parameters()}
        if hasattr(trainer.optimizer.optimizer, "close"):
            trainer.optimizer.optimizer.close()
        return losses, weights

    def test_trains_as_with_torch(self):
        own, _ = self.train(strata.AdamW, self.on_nvme(host_budget="4MiB"), save_strategy="no")
        theirs, _ = self.train(torch.optim.AdamW, {}, save_strategy="no")
        self.assertEqual(len(own), 6)
        for one, other in zip(own, theirs):
            self.assertAlmostEqual(one, other, places=3)

    def test_a_run_that_is_resumed_has_the_bits_of_one_that_went_on(self):
        for dtype, moments in ((torch.float32, "fp32"), (torch.bfloat16, "int8")):
            with self.subTest(dtype):
                places = self.on_nvme(host_budget="4MiB", moments=moments)
                _, whole = self.train(strata.AdamW, places, dtype=dtype)
                checkpoint = str(self.space / "out" / "checkpoint-3")
                _, resumed = self.train(strata.AdamW, places, resume=checkpoint, dtype=dtype)
                for name, values in whole.items():
                    self.assert_same_bits(values, resumed[name], name)

    def test_clipping_of_the_optimizer_takes_the_place_of_trainers(self):
        places = self.on_nvme(host_budget="4MiB", max_grad_norm=0.1)
        own, _ = self.train(strata.AdamW, places, save_strategy="no", max_grad_norm=0.0)
        theirs, _ = self.train(torch.optim.AdamW, {}, save_strategy="no", max_grad_norm=0.1)
        for one, other in zip(own, theirs):
            self.assertAlmostEqual(one, other, places=3)


class WithAccelerate(PackageTest):
    def train(self, steps, load=None, save=None):
        """The weights after `steps` updates of two micro-batches each, from where `load` is."""
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Linear(256, 64))
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        optimizer = strata.AdamW(model.parameters(), lr=1e-2, max_grad_norm=1.0, **self.on_nvme())
        model, prepared = accelerator.prepare(model, optimizer)
        if load:
            accelerator.load_state(load)
        for batch in range(2 * steps):
            x = torch.randn(8, 64, generator=torch.Generator().manual_seed(batch % 2))
            with accelerator.accumulate(model):
                accelerator.backward((model(x) - x).square().mean())
                prepared.step()
                prepared.zero_grad()
        if save:
            accelerator.save_state(save)
        counts = {int(optimizer.state_of(each)["step"]) for each in model.parameters()}
        weights = [each.detach().clone() for each in model.parameters()]
        optimizer.close()
        return weights, counts

    def test_updates_once_for_all_micro_batches_and_resumes_with_the_same_bits(self):
        whole, counts = self.train(4)
        self.assertEqual(counts, {4})
        self.train(2, save=str(self.space / "state"))
        resumed, counts = self.train(2, load=str(self.space / "state"))
        self.assertEqual(counts, {4})
        for one, other in zip(whole, resumed):
            self.assert_same_bits(one, other)


if __name__ == "__main__":
    unittest.main()
