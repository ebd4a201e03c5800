#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "optim_cpu/run_step.h"
#include "optim_cpu/step_under_test.h"
#include "strata/base/error.h"

// Steps whose calls, times and neighbours in the I/O queue are drawn, on one thread.

namespace strata::optim_cpu::step_interleavings_test {
namespace {

using aio::Fault;
using std::chrono::microseconds;

/// Formats without and with random rounding.
std::vector<StateFormat> two_formats() {
  StateFormat stochastic = Precision::kBf16;
  stochastic.master = MasterFormat::k24Bit;
  stochastic.moments = MomentFormat::kInt8;
  return {Precision::kBf16, stochastic};
}

StepUnderTest::Options drawn_options(std::mt19937_64& random) {
  StepUnderTest::Options options{.format = two_formats()[random() % 2], .seed = random()};
  for (const StateKind kind : kStateKinds)
    if (random() % 4 == 0) options.on_nvme.erase(kind);
  options.windows = 1 + random() % 3;
  options.shards_max = std::array{1, 2, 16}[random() % 3];
  options.operations_max = std::array{1u, 2u, 5u, 64u}[random() % 4];
  return options;
}

/// A step whose calls, and the time and other transfers between them, are drawn. The shards are
/// offered in the order `order`.
void play(StepUnderTest& step, std::span<const std::size_t> order, std::uint32_t operations_max,
          std::mt19937_64& random) {
  OtherTransfers others(step.store);
  WindowPipeline& pipeline = step.pipeline;
  std::size_t offered = 0;
  std::size_t completed = 0;
  step.begin();
  for (bool ended = false; !ended;) {
    switch (random() % 7) {
      case 0:
        if (offered < order.size() && pipeline.offer(step.placed[order[offered]])) ++offered;
        break;
      case 1:
      case 2: {
        const Time before = step.clock.now();
        pipeline.pump();
        EXPECT_EQ(step.clock.now(), before) << "pump has waited";
        break;
      }
      case 3: step.clock.advance(microseconds(random() % 200)); break;
      case 4: (void)others.start_one(step.arena); break;
      case 5:
        if (others.count() > 0) others.wait_for_one();
        break;
      case 6:
        if (offered < order.size() || random() % 8 > 0) break;
        ended = pipeline.finish();
        EXPECT_TRUE(ended || others.count() == operations_max) << "there was room";
    }
    for (; completed < pipeline.completed(); ++completed)
      EXPECT_TRUE(step.has_new_weights(order[completed])) << "shard " << order[completed];
  }
  EXPECT_EQ(completed, order.size());
  while (others.count() > 0) others.wait_for_one();
}

std::vector<std::size_t> drawn_order(const StepUnderTest& step, std::mt19937_64& random) {
  std::vector<std::size_t> order(step.placed.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::shuffle(order, random);
  return order;
}

TEST(StepInterleavings, HaveTheBitsOfAStepAtOnce) {
  std::vector<TestShards> at_once;
  for (const StateFormat& format : two_formats()) {
    StepUnderTest step({.format = format, .on_nvme = {}});
    run_step(step.pipeline, step.placed, step.groups());
    ASSERT_TRUE(same_bits(step.expected, step.shards));
    at_once.push_back(step.shards);
  }
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const StepUnderTest::Options options = drawn_options(random);
    StepUnderTest step(options);
    play(step, drawn_order(step, random), options.operations_max, random);
    step.shards.collect(step.placed, step.store);
    ASSERT_TRUE(same_bits(at_once[options.format.is_stochastic() ? 1 : 0], step.shards));
  }
}

TEST(StepInterleavings, EndInTheRightBytesOrAnErrorAndCanBeginAgain) {
  constexpr std::size_t kSeeds = 80;
  std::size_t failed = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const StepUnderTest::Options options = drawn_options(random);
    StepUnderTest step(options);
    step.disk->set_chances({{Fault::error(EIO), 0.01}, {Fault::flipped_bit(), 0.01}});
    try {
      play(step, drawn_order(step, random), options.operations_max, random);
    } catch (const Error&) {
      ++failed;
      try {
        (void)step.pipeline.finish();  // it was one of the other transfers that failed
      } catch (const Error&) {
      }
      EXPECT_THROW(step.pipeline.pump(), UsageError);
    }
    step.disk->set_chances({});
    step.shards = reference_step(options.format).before;
    step.placed = step.shards.place(options.on_nvme, &step.store);
    run_step(step.pipeline, step.placed, step.groups());
    ASSERT_TRUE(step.has_bits_of_reference());
  }
  EXPECT_GT(failed, kSeeds / 10);
  EXPECT_LT(failed, kSeeds);
}

}  // namespace
}  // namespace strata::optim_cpu::step_interleavings_test
