#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"

/// \file
/// Promise 1: offloaded training gives the bits of an in-memory loop with the same arithmetic, and
/// no placement, backend, depth or number of threads changes one of them, alone or together.

namespace strata::promise::same_bits_test {
namespace {

using formats::OffloadDevice;

constexpr int kSteps = 6;
/// Of the many runs of EveryCombination: one whose order is recorded, and two that prefetch by it.
constexpr int kStepsOfCombination = 3;

Parameters train(const formats::DsConfig& config, const models::Gpt2Config& model, int steps) {
  EngineRun run(config, model);
  for (int step = 0; step < steps; ++step) run.step();
  return run.parameters();
}

class InMemoryBits : public testing::TestWithParam<Precision> {};

TEST_P(InMemoryBits, EverythingOnNvmeEqualsTheInMemoryLoop) {
  ScratchDirectory scratch;
  expect_bits_of_in_memory_loop(nvme_config(scratch.path(), GetParam()), small_model(), kSteps);
}

TEST_P(InMemoryBits, AccumulationOverMicroBatchesEqualsTheInMemoryLoop) {
  ScratchDirectory scratch;
  // Untied: autograd adds the two uses of a tied weight before rounding, the engine adds each in
  // fp32.
  expect_bits_of_in_memory_loop(nvme_config(scratch.path(), GetParam(), /*accumulation=*/3),
                                small_model(/*tied=*/false), kSteps);
}

INSTANTIATE_TEST_SUITE_P(Precisions, InMemoryBits,
                         testing::Values(Precision::kBf16, Precision::kFp32),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

/// One way to run the same job.
struct Variant {
  std::string name;
  OffloadDevice parameters = OffloadDevice::kNvme;
  OffloadDevice optimizer = OffloadDevice::kNvme;
  IoBackend io = IoBackend::kAuto;
  std::int64_t prefetch_elements = 50'000'000;
  std::int64_t threads = 0;
  bool recompute = true;
  std::uint64_t chunk_bytes = 4096;
  bool least_host_memory = false;
  bool least_device_memory = false;
  std::optional<std::uint64_t> kept_hundredths{};  ///< of the states on nvme, in host memory
  std::int64_t live_elements_max = 1'000'000'000;
  std::optional<std::int64_t> reuse_distance{};
  std::optional<std::int64_t> persistence_threshold{};
  std::int64_t depth = 32;
  std::int64_t directories = 1;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

std::vector<Variant> variants() {
  std::vector<Variant> all;
  constexpr std::pair<OffloadDevice, const char*> kDevices[] = {
      {OffloadDevice::kNone, "none"}, {OffloadDevice::kCpu, "cpu"}, {OffloadDevice::kNvme, "nvme"}};
  for (const auto& [parameters, parameters_name] : kDevices) {
    for (const auto& [optimizer, optimizer_name] : kDevices) {
      all.push_back(
          {.name = std::string("weights_") + parameters_name + "_states_" + optimizer_name,
           .parameters = parameters,
           .optimizer = optimizer});
    }
  }
  all.push_back({.name = "io_uring", .io = IoBackend::kIoUring});
  all.push_back({.name = "libaio", .io = IoBackend::kLibaio});
  all.push_back({.name = "threads", .io = IoBackend::kThreads});
  all.push_back({.name = "depth_1", .depth = 1});
  all.push_back({.name = "no_prefetch", .prefetch_elements = 0});
  all.push_back({.name = "short_prefetch", .prefetch_elements = 30'000});
  all.push_back({.name = "one_thread", .threads = 1});
  all.push_back({.name = "two_threads", .threads = 2});
  all.push_back({.name = "activations_kept", .recompute = false});
  all.push_back({.name = "large_chunks", .chunk_bytes = 1u << 20});
  all.push_back({.name = "room_for_one_unit", .least_device_memory = true});
  all.push_back({.name = "gradients_on_nvme", .least_host_memory = true});
  all.push_back({.name = "three_directories", .directories = 3});
  all.push_back({.name = "short_reuse_distance", .reuse_distance = 60'000});
  all.push_back({.name = "some_units_persistent_beside_the_largest",
                 .live_elements_max = 100'000,
                 .persistence_threshold = 1'000'000'000});
  all.push_back({.name = "some_weights_in_host_memory", .kept_hundredths = 8});
  all.push_back({.name = "weights_and_some_states_in_host_memory", .kept_hundredths = 40});
  all.push_back({.name = "all_in_host_memory", .kept_hundredths = 100});
  all.push_back({.name = "some_weights_in_host_memory_room_for_one_unit",
                 .least_device_memory = true,
                 .kept_hundredths = 8});
  all.push_back({.name = "half_in_host_memory_of_three_directories",
                 .kept_hundredths = 50,
                 .directories = 3});
  return all;
}

/// The job of every variant: so many blocks that gradients take more room than their staging.
models::Gpt2Config deep_model() {
  models::Gpt2Config model = small_model();
  model.n_layer = 8;
  return model;
}

formats::DsConfig job_in(const std::filesystem::path& directory) {
  return nvme_config(directory, Precision::kBf16, /*accumulation=*/2);
}

const Parameters& expected_after(int steps) {
  static std::map<int, Parameters> made;
  const auto [found, is_new] = made.try_emplace(steps);
  if (is_new) {
    const ScratchDirectory scratch;
    found->second = train(job_in(scratch.path()), deep_model(), steps);
  }
  return found->second;
}

formats::DsConfig config_of(const Variant& variant, const std::filesystem::path& scratch) {
  formats::DsConfig config = job_in(scratch);
  config.zero.offload_param.device = variant.parameters;
  config.zero.offload_optimizer.device = variant.optimizer;
  config.zero.prefetch_elements = variant.prefetch_elements;
  config.zero.live_elements_max = variant.live_elements_max;
  config.zero.reuse_distance_max = variant.reuse_distance;
  config.zero.persistence_threshold = variant.persistence_threshold;
  config.aio.queue_depth = variant.depth;
  config.strata.io = variant.io;
  config.strata.threads = variant.threads;
  config.strata.recompute = variant.recompute;
  config.strata.chunk_bytes = variant.chunk_bytes;
  config.strata.nvme_directories.clear();
  for (std::int64_t i = 0; i < variant.directories; ++i) {
    const auto directory = scratch / std::to_string(i);
    std::filesystem::create_directory(directory);
    config.strata.nvme_directories.push_back(directory.string());
  }
  zero3::PlanInput input = TestDevice::plan_input(config);
  input.units = models::unit_layouts(deep_model());
  const zero3::TierBytes smallest = zero3::smallest_budgets(input);
  if (variant.least_host_memory) config.strata.host_budget_bytes = smallest.host;
  if (variant.kept_hundredths) {
    config.strata.host_budget_bytes = host_budget_that_keeps(input, *variant.kept_hundredths);
  }
  if (variant.least_device_memory) config.strata.device_budget_bytes = smallest.device;
  return config;
}

class Placement : public testing::TestWithParam<Variant> {};

TEST_P(Placement, ChangesNoBit) {
  const Variant& variant = GetParam();
  const Parameters& expected = expected_after(kSteps);  // first: one device lives at a time
  const ScratchDirectory scratch;
  EngineRun run(config_of(variant, scratch.path()), deep_model());
  for (int step = 0; step < kSteps; ++step) run.step();
  EXPECT_EQ(run.engine().plan().gradients_on_nvme, variant.least_host_memory);
  expect_equal_bits(run.parameters(), expected);
}

INSTANTIATE_TEST_SUITE_P(Variants, Placement, testing::ValuesIn(variants()),
                         [](const auto& tested) { return tested.param.name; });

class EveryCombination : public testing::TestWithParam<std::tuple<OffloadDevice, OffloadDevice>> {};

TEST_P(EveryCombination, OfBackendPrefetchAndThreadsChangesNoBit) {
  Variant variant;
  std::tie(variant.parameters, variant.optimizer) = GetParam();
  const bool uses_disk =
      variant.parameters == OffloadDevice::kNvme || variant.optimizer == OffloadDevice::kNvme;
  for (const IoBackend io : {IoBackend::kIoUring, IoBackend::kLibaio, IoBackend::kThreads}) {
    if (!uses_disk && io != IoBackend::kThreads) continue;  // nothing moves through it
    for (const std::int64_t prefetch : {0, 30'000, 50'000'000}) {
      for (const std::int64_t threads : {1, 2}) {
        SCOPED_TRACE("engine " + std::to_string(static_cast<int>(io)) + ", prefetch " +
                     std::to_string(prefetch) + ", threads " + std::to_string(threads));
        variant.io = io;
        variant.prefetch_elements = prefetch;
        variant.threads = threads;
        const ScratchDirectory scratch;
        expect_equal_bits(
            train(config_of(variant, scratch.path()), deep_model(), kStepsOfCombination),
            expected_after(kStepsOfCombination));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Placements, EveryCombination,
                         testing::Combine(testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme)));

}  // namespace
}  // namespace strata::promise::same_bits_test
