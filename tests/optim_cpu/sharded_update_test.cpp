#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "optim_cpu/moment_block.h"
#include "optim_cpu/run_step.h"
#include "optim_cpu/state_arrays.h"
#include "optim_cpu/step_tools.h"
#include "optim_cpu/variants.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/host_arena.h"
#include "support/sanitizer.h"

/// \file
/// A vector that several ranks keep a shard of each is updated as if one kept it whole.

namespace strata::optim_cpu::sharded_update_test {
namespace {

constexpr std::size_t kCount = 1003 * kBlock;  // not even for any world
constexpr std::uint64_t kSequence = 5;

/// Where random numbers are counted from.
enum class Place { kOfVector, kOfShard };

class ShardedUpdate : public ::testing::TestWithParam<Variant> {
 protected:
  [[nodiscard]] StateFormat format(StateFormat master) const {
    master.moments = GetParam().moments;
    master.has_m = optim::keeps_m(GetParam().optimizer.options);
    master.has_v = optim::keeps_v(GetParam().optimizer.options);
    return master;
  }

  /// Elements [begin, begin + count) of `arrays`, as a shard.
  static ShardStates shard_of(StateArrays& arrays, std::uint64_t begin, std::uint64_t count) {
    ShardStates shard;
    shard.count = count;
    shard.format = arrays.format();
    shard.gradient_fp32 = true;
    shard.sequence = kSequence;
    shard.first_element = begin;
    const auto home = [&](StateKind kind) -> tiering::StateHome {
      const std::uint64_t bytes = arrays.element_bytes(kind);
      return {.memory = arrays.bytes(kind).subspan(begin * bytes, count * bytes), .extent = {}};
    };
    shard.weight = home(StateKind::kWeight);
    shard.master = home(StateKind::kMaster);
    shard.m = home(StateKind::kM);
    shard.v = home(StateKind::kV);
    shard.gradient = home(StateKind::kGradient);
    const std::uint64_t middle = count / kBlock / 2 * kBlock;
    if (middle > 0) shard.segments.push_back({0, middle, 0});
    shard.segments.push_back({middle, count, 0});
    return shard;
  }

  /// Three steps of a world of that many ranks, one rank after the other.
  void step(StateArrays& arrays, std::uint64_t ranks, Place place = Place::kOfVector) {
    tiering::HostArena arena = tools_.arena(1_MiB);
    Counters counters;
    WindowPipeline pipeline({.formats = {arrays.format()}}, {}, arena, tools_.threads, counters);
    const std::uint64_t longest = round_up(ceil_div(kCount, ranks), kBlock);
    for (std::int64_t step = 1; step <= 3; ++step) {
      for (std::uint64_t begin = 0; begin < kCount; begin += longest) {
        std::vector<ShardStates> shards = {
            shard_of(arrays, begin, std::min(longest, kCount - begin))};
        if (place == Place::kOfShard) shards.front().first_element = 0;
        const UpdateGroup group{GetParam().optimizer.options, {.step = step}};
        run_step(pipeline, shards, std::span(&group, 1));
      }
      arrays.fill_gradient_plausibly(static_cast<std::uint64_t>(step));
    }
  }

  static StateArrays begin_with(const StateFormat& format) {
    StateArrays arrays(format, Precision::kFp32, kCount);
    arrays.fill_plausibly(1);
    return arrays;
  }

  StepTools tools_{2};
};

INSTANTIATE_TEST_SUITE_P(All, ShardedUpdate,
                         ::testing::ValuesIn(support::of_same_threads(all_variants(), 7)),
                         [](const auto& test) { return test.param.name(); });

TEST_P(ShardedUpdate, ShardsThatAreUpdatedApartHaveTheBitsOfTheWholeVector) {
  for (const StateFormat& master : all_masters()) {
    StateArrays whole = begin_with(format(master));
    step(whole, 1);
    for (const std::uint64_t ranks : {2u, 3u, 4u}) {
      StateArrays sharded = begin_with(format(master));
      step(sharded, ranks);
      EXPECT_TRUE(same_bits(whole, sharded)) << ranks << " ranks, " << master_name(master);
    }
  }
}

TEST_P(ShardedUpdate, IsKeyedByThePlaceInTheVectorWhereverRoundingIsRandom) {
  for (const StateFormat& master : all_masters()) {
    StateArrays whole = begin_with(format(master));
    step(whole, 1);
    StateArrays sharded = begin_with(format(master));
    step(sharded, 3, Place::kOfShard);
    const bool is_random =
        master_bytes(master.precision, master.master) == 1 ||
        (format(master).is_stochastic() && (format(master).has_m || format(master).has_v));
    EXPECT_EQ(same_bits(whole, sharded), !is_random) << master_name(master);
  }
}

TEST_P(ShardedUpdate, RefusesAPlaceThatIsNoWholeBlockWhereRoundingIsRandom) {
  StateFormat stochastic = Precision::kBf16;
  stochastic.master = MasterFormat::k24Bit;
  StateArrays arrays = begin_with(format(stochastic));
  tiering::HostArena arena = tools_.arena(1_MiB);
  Counters counters;
  WindowPipeline pipeline({.formats = {arrays.format()}}, {}, arena, tools_.threads, counters);
  std::vector<ShardStates> shards = {shard_of(arrays, 0, kCount)};
  shards.front().first_element = kBlock / 2;
  const UpdateGroup group{GetParam().optimizer.options, {.step = 1}};
  StateArrays before = arrays;
  EXPECT_THROW(run_step(pipeline, shards, std::span(&group, 1)), UsageError);
  EXPECT_TRUE(same_bits(before, arrays));
}

}  // namespace
}  // namespace strata::optim_cpu::sharded_update_test
