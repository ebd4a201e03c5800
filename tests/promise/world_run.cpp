#include "promise/world_run.h"

#include <gtest/gtest.h>

#include <exception>

#include "zero3/thread_world.h"

namespace strata::promise {
namespace {

void expect_bytes_of_plan(EngineRun& run, int rank) {
  for (const tiering::Tier tier : tiering::kTiers) {
    EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier))
        << name_of(tier) << " of rank " << rank;
  }
}

}  // namespace

std::vector<Parameters> train(const World& world, const Job& job) {
  const zero3::ThreadRanks::Options options{
      .size = world.size, .delay_max = std::chrono::microseconds(300), .delay_seed = world.seed};
  std::vector<Parameters> parameters(static_cast<std::size_t>(world.size));
  const auto thrown = zero3::run_ranks(options, [&](zero3::Ranks& ranks) {
    EngineRun run(job.config, job.model, &ranks);
    for (int step = 0; step < job.steps; ++step) (run.*job.step)();
    parameters[static_cast<std::size_t>(ranks.rank())] = run.parameters();
    expect_bytes_of_plan(run, ranks.rank());
    if (job.look) job.look(run);
  });
  for (const std::exception_ptr& each : thrown) {
    if (each) std::rethrow_exception(each);
  }
  return parameters;
}

}  // namespace strata::promise
