#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "promise/training_run.h"
#include "strata/base/units.h"

/// \file
/// Activations that wait in host memory or on nvme change no number, and keep to the plan's bytes.

namespace strata::promise::activations_test {
namespace {

constexpr int kSteps = 3;
constexpr std::int64_t kMicroBatches = 3;

struct Room {
  std::string name;
  std::uint64_t host = 0, nvme = 0;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Room& room, std::ostream* out) { *out << room.name; }

const Room kNone{"none"}, kHost{"host", 1_MiB}, kNvme{"nvme", 16_KiB, 1_MiB},
    kFew{"few", 16_KiB, 20_KiB};

class ActivationsAway : public testing::TestWithParam<std::tuple<Precision, Room>> {
 protected:
  [[nodiscard]] static formats::DsConfig config(const ScratchDirectory& scratch, const Room& room) {
    formats::DsConfig config =
        nvme_config(scratch.path(), std::get<Precision>(GetParam()), kMicroBatches);
    config.strata.activations_host_bytes = room.host;
    config.strata.activations_nvme_bytes = room.nvme;
    return config;
  }

  struct Trained {
    std::vector<double> losses;
    Parameters parameters;
    tiering::ActivationReading moved;
  };

  static Trained train(const Room& room, double (EngineRun::*step)()) {
    const ScratchDirectory scratch;
    EngineRun run(config(scratch, room), small_model());
    Trained trained;
    for (int i = 0; i < kSteps; ++i) trained.losses.push_back((run.*step)());
    trained.parameters = run.parameters();
    trained.moved = run.engine().activations();
    for (const tiering::Tier tier : tiering::kTiers) {
      EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
    }
    return trained;
  }
};

TEST_P(ActivationsAway, HaveTheBitsOfThoseThatStay) {
  const Room& room = std::get<Room>(GetParam());
  for (const auto step : {&EngineRun::step, &EngineRun::step_by_batch}) {
    SCOPED_TRACE(step == &EngineRun::step ? "ordinary loop" : "train_batch");
    const Trained away = train(room, step), stay = train(kNone, step);
    EXPECT_EQ(away.losses, stay.losses);
    expect_equal_bits(away.parameters, stay.parameters);
    EXPECT_EQ(stay.moved.put, 0u);
    EXPECT_GT(away.moved.put, 0u);
    EXPECT_EQ(away.moved.brought, away.moved.put) << "every one is wanted once";
    const bool is_batch = step == &EngineRun::step_by_batch;
    EXPECT_EQ(away.moved.written > 0, room.nvme > 0);
    if (room.name != "few") {
      EXPECT_EQ(away.moved.refused, 0u);
    } else if (is_batch) {
      EXPECT_GT(away.moved.refused, 0u) << "there is more than the room holds";
    }
    if (room.name == "nvme" && is_batch) {
      EXPECT_GT(away.moved.read, 0u);
      EXPECT_LT(away.moved.read, away.moved.put) << "the last ones are still in memory";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rooms, ActivationsAway,
                         testing::Combine(testing::Values(Precision::kBf16, Precision::kFp32),
                                          testing::Values(kHost, kNvme, kFew)),
                         [](const auto& tested) {
                           return std::string(name_of(std::get<Precision>(tested.param))) + "_" +
                                  std::get<Room>(tested.param).name;
                         });

}  // namespace
}  // namespace strata::promise::activations_test
