"""Parameters that FSDP2 shards over two Gloo processes, which rest in host memory between uses.

Usage: fsdp_test.py PACKAGE_FOLDER
"""

import os
import sys
import tempfile
import traceback
import unittest

os.environ.update(CUDA_VISIBLE_DEVICES="")

import package  # noqa: E402
from package import strata, torch  # noqa: E402

import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
import torch.multiprocessing  # noqa: E402
from torch.distributed.checkpoint import state_dict as dcp_states  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor  # noqa: E402

RANKS = 2


def model_of(dtype=torch.float32):
    """Rows that two ranks do not share evenly, and one row, of which the second rank has nothing."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Linear(33, 21), torch.nn.GELU(), torch.nn.Linear(21, 1)
    ).to(dtype)
    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh, offload_policy=CPUOffloadPolicy(pin_memory=False))
    return model


def backward(model, step):
    generator = torch.Generator().manual_seed(100 * step + dist.get_rank())
    x = torch.randn(4, 33, generator=generator).to(next(model.parameters()).dtype)
    model(x).square().mean().backward()


def train(model, optimizer, steps, clip=None):
    for step in steps:
        backward(model, step)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()


def whole(model):
    return [parameter.full_tensor().detach().clone() for parameter in model.parameters()]


class Rank(package.PackageTest):
    """The tests, which each process runs in the same order."""

    def own_disk(self):
        return self.on_nvme(host_budget="4MiB")

    def assert_close(self, ones, others):
        for one, other in zip(ones, others, strict=True):
            torch.testing.assert_close(one, other, rtol=3e-7, atol=1e-8)

    def test_steps_are_those_of_torch(self):
        own, theirs = model_of(), model_of()
        with self.made(strata.AdamW, own.parameters(), lr=1e-2, **self.own_disk()) as optimizer:
            train(own, optimizer, range(5))
            for parameter in own.parameters():
                self.assertIsInstance(parameter.data, DTensor)
        train(theirs, torch.optim.AdamW(theirs.parameters(), lr=1e-2), range(5))
        self.assert_close(whole(own), whole(theirs))

    def test_clipping_is_by_the_norm_of_all_ranks(self):
        own, theirs = model_of(), model_of()
        arguments = {"lr": 1e-2, "max_grad_norm": 0.05, **self.own_disk()}
        with self.made(strata.SGD, own.parameters(), momentum=0.9, **arguments) as optimizer:
            train(own, optimizer, range(5))
            norms = [None] * RANKS
            dist.all_gather_object(norms, optimizer.last_step.grad_norm)
            self.assertEqual(norms[0], norms[1])
            self.assertGreater(norms[0], 0.05)
        train(theirs, torch.optim.SGD(theirs.parameters(), lr=1e-2, momentum=0.9), range(5), 0.05)
        for one, other in zip(whole(own), whole(theirs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)

    def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_all(self):
        model = model_of()
        before = whole(model)
        with self.made(strata.AdamW, model.parameters(), max_grad_norm=1.0) as optimizer:
            backward(model, 0)
            if dist.get_rank() == 1:
                next(model.parameters()).grad.to_local()[0, 0] = float("nan")
            with self.assertWarnsRegex(UserWarning, "not finite"):
                optimizer.step()
            self.assertTrue(optimizer.last_step.skipped)
        for one, other in zip(before, whole(model), strict=True):
            self.assert_same_bits(one, other)

    def test_states_saved_by_each_rank_go_on_with_the_bits(self):
        for dtype, moments in ((torch.float32, "fp32"), (torch.bfloat16, "int8")):
            with self.subTest(dtype):
                self.save_and_go_on(dtype, {"lr": 1e-2, "moments": moments, **self.own_disk()})

    def save_and_go_on(self, dtype, arguments):
        model, other = model_of(dtype), model_of(dtype)
        saved = self.space / f"states-{dtype}"
        with self.made(strata.AdamW, model.parameters(), **arguments) as optimizer:
            train(model, optimizer, range(2))
            optimizer.save(saved)
            with torch.no_grad():
                for one, source in zip(other.parameters(), model.parameters()):
                    one.copy_(source)
            train(model, optimizer, range(2, 4))
        with self.made(strata.AdamW, other.parameters(), **arguments) as optimizer:
            optimizer.load(saved)
            train(other, optimizer, range(2, 4))
        for one, source in zip(whole(other), whole(model), strict=True):
            self.assert_same_bits(one, source)
        places = [None] * RANKS
        dist.all_gather_object(places, str(saved))
        with self.made(strata.AdamW, other.parameters(), **arguments) as optimizer:
            with self.assertRaisesRegex(strata.DataError, "other shapes|another rank"):
                optimizer.load(places[1 - dist.get_rank()])
        dist.barrier()

    def test_torchs_distributed_checkpoint_writes_and_reads_the_states(self):
        folder = [str(self.space / "dcp")]
        dist.broadcast_object_list(folder, src=0)
        model, other = self.even_model(), self.even_model()
        with self.made(strata.AdamW, model.parameters(), lr=1e-2, **self.own_disk()) as optimizer:
            train(model, optimizer, range(2))
            states = dcp_states.get_optimizer_state_dict(model, optimizer)
            moment = states["state"]["0.weight"]["exp_avg"]
            self.assertIsInstance(moment, DTensor)
            self.assertEqual(list(moment.shape), [8, 33])
            dcp.save({"model": model.state_dict(), "optimizer": states}, checkpoint_id=folder[0])
            train(model, optimizer, range(2, 4))
        with self.made(strata.AdamW, other.parameters(), lr=1e-2, **self.own_disk()) as optimizer:
            weights = other.state_dict()
            states = dcp_states.get_optimizer_state_dict(other, optimizer)
            dcp.load({"model": weights, "optimizer": states}, checkpoint_id=folder[0])
            other.load_state_dict(weights)
            dcp_states.set_optimizer_state_dict(other, optimizer, states)
            train(other, optimizer, range(2, 4))
        for one, source in zip(whole(other), whole(model), strict=True):
            self.assert_same_bits(one, source)
        dist.barrier()

    def even_model(self):
        torch.manual_seed(5)
        model = torch.nn.Sequential(torch.nn.Linear(33, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
        return fully_shard(model, mesh=init_device_mesh("cpu", (RANKS,)))

    def test_what_shards_cannot_have_is_refused(self):
        model = model_of()
        with self.assertRaisesRegex(strata.ConfigError, "overlap=True is for whole parameters"):
            strata.AdamW(model.parameters(), overlap=True)
        mixed = [*model.parameters(), torch.nn.Parameter(torch.zeros(3))]
        with self.assertRaisesRegex(strata.ConfigError, "some whole parameters"):
            strata.AdamW(mixed, max_grad_norm=1.0)
        mesh = init_device_mesh("cpu", (RANKS,))
        replica = torch.nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Replicate()]))
        with self.assertRaisesRegex(strata.ConfigError, "for replicas"):
            strata.AdamW([replica], max_grad_norm=1.0)
        with self.made(strata.AdamW, model.parameters(), moments="int8") as optimizer:
            with self.assertRaisesRegex(strata.UsageError, r"call save\(\) with a directory"):
                optimizer.state_dict()


def run_rank(rank, meeting):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    torch.set_num_threads(1)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            stream = sys.stderr if rank == 0 else nothing
            suite = unittest.defaultTestLoader.loadTestsFromTestCase(Rank)
            result = unittest.TextTestRunner(stream, verbosity=2, failfast=True).run(suite)
        for _, text in result.failures + result.errors:
            print(f"rank {rank}: {text}", file=sys.stderr)
        if not result.wasSuccessful():
            os._exit(1)  # the other one waits for this rank, or is ended
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        torch.multiprocessing.start_processes(
            run_rank, (os.path.join(directory, "meeting"),), nprocs=RANKS, start_method="fork"
        )
