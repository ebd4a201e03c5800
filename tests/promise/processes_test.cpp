#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"
#include "promise/world_run.h"
#include "zero3/process_world.h"
#include "zero3/ranks/host_share.h"
#include "zero3/ranks/one_rank.h"

/// \file
/// The promise for ranks that are processes: a world of N processes has the bits of N threads, and
/// of an in-memory loop that adds in rank order. Whatever computes is a process of its own.

namespace strata::promise::processes_test {
namespace {

using zero3::RankOutcome;

void save(const Parameters& parameters, const std::filesystem::path& path) {
  std::vector<torch::Tensor> tensors;
  for (const auto& [name, value] : parameters) tensors.push_back(value);
  torch::save(tensors, path.string());
}

std::vector<torch::Tensor> load(const std::filesystem::path& path) {
  std::vector<torch::Tensor> tensors;
  torch::load(tensors, path.string());
  return tensors;
}

/// Runs `body` in `size` processes, of which none may throw or fail.
void run_all(int size, const std::function<void(zero3::Ranks&)>& body) {
  for (const RankOutcome& each : zero3::run_processes(size, body)) {
    ASSERT_EQ(each.kind, RankOutcome::Kind::kReturned) << each.text;
    ASSERT_FALSE(each.test_failed);
  }
}

class Processes : public testing::TestWithParam<std::tuple<int, formats::OffloadDevice>> {
 protected:
  [[nodiscard]] static int size() { return std::get<0>(GetParam()); }
  [[nodiscard]] std::filesystem::path file(const std::string& name) const {
    return scratch_.path() / name;
  }
  [[nodiscard]] Job job() const {
    Job job{nvme_config(scratch_.path(), Precision::kBf16, /*accumulation=*/2),
            without_dropout(small_model(/*tied=*/true))};
    job.config.zero.offload_param.device = std::get<1>(GetParam());
    job.config.zero.offload_optimizer.device = std::get<1>(GetParam());
    return job;
  }

 private:
  const ScratchDirectory scratch_;
};

TEST_P(Processes, HaveTheBitsOfThreadsAndOfALoopThatAddsInRankOrder) {
  const Job job = this->job();
  run_all(size(), [&](zero3::Ranks& ranks) {
    EngineRun run(job.config, job.model, &ranks);
    for (int step = 0; step < job.steps; ++step) run.step();
    save(run.parameters(), file("process." + std::to_string(ranks.rank())));
  });
  run_all(1, [&](zero3::Ranks&) {
    const OneThreadEach one_thread;
    save(train({.size = size()}, job).front(), file("threads"));
    InMemoryLoop in_memory(job.config, job.model, size(), InMemoryLoop::Ties::kUseByUse);
    for (int step = 0; step < job.steps; ++step) {
      in_memory.step(InMemoryLoop::Sums::kOfMicroBatchesFirst);
    }
    save(in_memory.parameters(), file("in_memory"));
  });
  const std::vector<torch::Tensor> expected = load(file("in_memory"));
  std::vector<std::string> others = {"threads"};
  for (int rank = 0; rank < size(); ++rank) others.push_back("process." + std::to_string(rank));
  for (const std::string& other : others) {
    const std::vector<torch::Tensor> actual = load(file(other));
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(torch::equal(actual[i], expected[i])) << other << ", parameter " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OnTiers, Processes,
                         testing::Combine(testing::Values(2, 3),
                                          testing::Values(formats::OffloadDevice::kCpu,
                                                          formats::OffloadDevice::kNvme)));

TEST(ProcessesOfAHost, DivideItsThreadsAmongThem) {
  run_all(2, [](zero3::Ranks&) {
    zero3::OneRank alone;
    const int cores = zero3::host_share(alone).threads;
    if (std::getenv("OMP_NUM_THREADS") == nullptr) {
      EXPECT_EQ(torch::get_num_threads(), std::max(1, cores / 2));
    }
  });
}

TEST(ProcessesThatDiffer, InTheirConfigAreRefusedWithTheKey) {
  const ScratchDirectory scratch;
  const auto outcomes = zero3::run_processes(2, [&](zero3::Ranks& ranks) {
    formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
    if (ranks.rank() == 1) config.optimizer.lr = 1e-4;
    EngineRun run(config, small_model(), &ranks);
  });
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, RankOutcome::Kind::kConfig);
    EXPECT_NE(each.text.find("optimizer.params.lr is 0.0001 on rank 1 and 0.003 on rank 0"),
              std::string::npos)
        << each.text;
  }
}

TEST(ProcessesThatDiffer, InTheirModelAreRefusedWithTheParameter) {
  const ScratchDirectory scratch;
  const auto outcomes = zero3::run_processes(2, [&](zero3::Ranks& ranks) {
    models::Gpt2Config model = small_model();
    if (ranks.rank() == 1) model.n_positions = 32;
    EngineRun run(nvme_config(scratch.path(), Precision::kBf16), model, &ranks);
    run.step();
  });
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, RankOutcome::Kind::kConfig);
    EXPECT_NE(each.text.find("wpe.weight is [32, 48], trained on rank 1 and [16, 48]"),
              std::string::npos)
        << each.text;
  }
}

TEST(ProcessesThatTrain, EndWhenOneIsKilledAndLeaveNoFiles) {
  const ScratchDirectory scratch;
  const auto outcomes = zero3::run_processes(3, [&](zero3::Ranks& ranks) {
    EngineRun run(nvme_config(scratch.path(), Precision::kBf16),
                  without_dropout(small_model(/*tied=*/false)), &ranks);
    for (int step = 0; step < 5; ++step) {
      if (step == 2 && ranks.rank() == 1) ::raise(SIGKILL);
      run.step();
    }
  });
  for (const std::size_t rank : {0, 2}) {
    EXPECT_EQ(outcomes[rank].kind, RankOutcome::Kind::kRankFailure) << outcomes[rank].text;
    EXPECT_EQ(outcomes[rank].failed_rank, 1) << outcomes[rank].text;
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

}  // namespace
}  // namespace strata::promise::processes_test
