#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "promise/test_device.h"
#include "strata/formats/ds_config.h"
#include "strata/models/gpt2.h"
#include "strata/zero3/engine.h"

/// \file
/// The small training job on which the promises are tested: a GPT-2 of three blocks on batches of
/// random tokens, in an engine or in memory.

namespace strata::promise {

/// A directory for scratch files, removed with everything in it at the end.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

[[nodiscard]] models::Gpt2Config small_model(bool tied = true);

/// Batch `index`: tokens and targets [4, 16].
struct Batch {
  torch::Tensor tokens, targets;
};
[[nodiscard]] Batch make_batch(const models::Gpt2Config& model, std::int64_t index);

/// A config with everything on nvme under `scratch`, AdamW with decay, clipping at 0.5 and no
/// schedule.
[[nodiscard]] formats::DsConfig nvme_config(const std::filesystem::path& scratch,
                                            Precision precision, std::int64_t accumulation = 1);

/// The optimizer and formats of a job, where they are not AdamW over states in fp32.
struct Training {
  std::string name;
  Precision precision = Precision::kBf16;
  formats::StatesConfig states = {};
  formats::OptimizerConfig optimizer = {};
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Training& training, std::ostream* out);

[[nodiscard]] models::Gpt2Config without_dropout(models::Gpt2Config model);

/// The small model where random numbers and sums have one order only: untied, without dropout.
[[nodiscard]] models::Gpt2Config model_of_one_order();

/// nvme_config's, with a learning rate and parameters that suit each optimizer.
[[nodiscard]] formats::OptimizerConfig optimizer_of(formats::OptimizerType type,
                                                    double momentum = 0.9);

/// Does the same for any optimizer and formats.
[[nodiscard]] formats::DsConfig nvme_config(const std::filesystem::path& scratch,
                                            const Training& training,
                                            std::int64_t accumulation = 1);

/// A host budget with room for everything else that the plan of `input` takes, and for so many
/// hundredths of the states that rest on nvme.
[[nodiscard]] std::uint64_t host_budget_that_keeps(zero3::PlanInput input,
                                                   std::uint64_t hundredths);

/// Parameters by their names in a checkpoint.
using Parameters = std::map<std::string, torch::Tensor>;

[[nodiscard]] Parameters parameters_of(models::Gpt2& model);

/// A training job in an engine; with `ranks`, the part of one of them. Seeds the generator of its
/// device for each batch.
class EngineRun {
 public:
  EngineRun(const formats::DsConfig& config, const models::Gpt2Config& model,
            zero3::Ranks* ranks = nullptr);

  /// One optimizer step; returns its mean loss.
  double step();
  /// One micro-batch; returns its loss.
  double micro_step();
  /// Goes on with this batch, each rank with its own.
  void go_on_at(std::int64_t batch) { batches_ = batch; }
  /// The same batches by Engine::train_batch.
  double step_by_batch();

  [[nodiscard]] Engine& engine() { return engine_; }
  [[nodiscard]] models::Gpt2& model() { return model_; }
  [[nodiscard]] Parameters parameters() { return parameters_of(model_); }
  [[nodiscard]] const StepReport& report() const { return report_; }

 private:
  [[nodiscard]] Batch next_batch();

  models::Gpt2Config config_;
  std::int64_t rank_, world_size_;
  TestDevice device_;
  Engine engine_;
  models::Gpt2 model_;
  std::int64_t batches_ = 0;
  StepReport report_;
};

/// Seed of the initial values.
inline constexpr std::uint64_t kSeed = 11;

/// Fails the running test at the first parameter whose bits differ.
void expect_equal_bits(const Parameters& actual, const Parameters& expected);

}  // namespace strata::promise
