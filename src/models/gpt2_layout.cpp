#include "strata/models/gpt2_layout.h"

#include <algorithm>
#include <utility>

#include "models/loss_chunks.h"
#include "models/unit_names.h"
#include "strata/formats/name_pattern.h"

namespace strata::models {

namespace {

constexpr double kBackwardPerForward = 2;
constexpr double kKeptBytesOfBlock = 34;  // in 16 bits, for a token and an element of the width

/// A unit whose parameters are added as its module registers them.
class UnitBuilder {
 public:
  UnitBuilder(std::string name, const std::vector<std::string>& fp32_patterns)
      : fp32_patterns_(fp32_patterns) {
    unit_.name = std::move(name);
  }

  void add(std::string name, std::vector<std::int64_t> shape) {
    const bool fp32 = formats::matches_any_pattern(fp32_patterns_, unit_.full_name(name));
    unit_.add(std::move(name), std::move(shape), /*trainable=*/true, fp32);
  }
  void add_norm(const std::string& name, std::int64_t width) {
    add(name + ".weight", {width});
    add(name + ".bias", {width});
  }
  void add_linear(const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + ".weight", {in, out});
    add(name + ".bias", {out});
  }
  [[nodiscard]] zero3::UnitLayout take() { return std::move(unit_); }

 private:
  const std::vector<std::string>& fp32_patterns_;
  zero3::UnitLayout unit_;
};

zero3::UnitLayout outer_layout(const Gpt2Config& config,
                               const std::vector<std::string>& fp32_patterns) {
  UnitBuilder outer(std::string(kOuterName), fp32_patterns);
  outer.add("wte.weight", {config.vocab_size, config.n_embd});
  outer.add("wpe.weight", {config.n_positions, config.n_embd});
  outer.add_norm("ln_f", config.n_embd);
  if (!config.tie_word_embeddings) outer.add("lm_head.weight", {config.vocab_size, config.n_embd});
  return outer.take();
}

zero3::UnitLayout block_layout(const Gpt2Config& config, std::int64_t index,
                               const std::vector<std::string>& fp32_patterns) {
  UnitBuilder block(block_name(index), fp32_patterns);
  block.add_norm("ln_1", config.n_embd);
  block.add_linear("attn.c_attn", config.n_embd, 3 * config.n_embd);
  block.add_linear("attn.c_proj", config.n_embd, config.n_embd);
  block.add_norm("ln_2", config.n_embd);
  block.add_linear("mlp.c_fc", config.n_embd, config.inner());
  block.add_linear("mlp.c_proj", config.inner(), config.n_embd);
  return block.take();
}

}  // namespace

std::vector<zero3::UnitLayout> unit_layouts(const Gpt2Config& config,
                                            const std::vector<std::string>& fp32_patterns) {
  config.validate();
  std::vector<zero3::UnitLayout> layouts = {outer_layout(config, fp32_patterns)};
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    layouts.push_back(block_layout(config, i, fp32_patterns));
  }
  return layouts;
}

std::uint64_t parameter_count(const Gpt2Config& config) {
  std::uint64_t count = 0;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) count += parameter.count;
  }
  return count;
}

zero3::StepWork step_work(const Gpt2Config& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute) {
  const auto width = static_cast<double>(config.n_embd);
  const double tokens = micro_batch.tokens();
  const double matrices = width * (4 * width + 2 * static_cast<double>(config.inner()));
  const double pairs = static_cast<double>(micro_batch.length) * width;
  const double block = 2 * tokens * (matrices + pairs);
  const double head = 2 * tokens * static_cast<double>(config.vocab_size) * width;

  zero3::StepWork work;
  work.micro_batches = micro_batches;
  work.loop = zero3::StepWork::Loop::kUnitByUnit;
  work.uses.push_back({.unit = 0});  // the embeddings
  for (std::size_t i = 1; i <= static_cast<std::size_t>(config.n_layer); ++i) {
    work.uses.push_back({.unit = i,
                         .forward = block,
                         .backward = kBackwardPerForward * block,
                         .recompute = recompute ? block : 0});
  }
  work.uses.push_back({.unit = 0, .forward = head, .backward = kBackwardPerForward * head});
  return work;
}

std::uint64_t estimated_activation_bytes(const Gpt2Config& config, const MicroBatch& micro_batch,
                                         std::uint64_t micro_batches, std::uint64_t number_bytes,
                                         bool recompute) {
  const auto number = static_cast<double>(number_bytes);
  const auto layers = static_cast<double>(config.n_layer);
  const double line = micro_batch.tokens() * static_cast<double>(config.n_embd);
  const double block = line * kKeptBytesOfBlock * number / 2;
  const double inputs = line * layers * number * static_cast<double>(micro_batches);
  const double blocks =
      recompute ? inputs + block : block * layers * static_cast<double>(micro_batches);
  const auto loss =
      static_cast<double>(loss_bytes({.rows = static_cast<std::int64_t>(micro_batch.tokens()),
                                      .vocab_size = config.vocab_size,
                                      .width = config.n_embd,
                                      .number_bytes = static_cast<std::int64_t>(number_bytes)}));
  std::uint64_t largest = 0;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    largest = std::max(largest, unit.trainable_count);
  }
  const std::uint64_t sums = micro_batches > 1 ? largest * sizeof(float) : 0;
  return static_cast<std::uint64_t>(blocks + loss) + largest * number_bytes + sums;
}

}  // namespace strata::models
