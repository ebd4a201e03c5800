#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "models/expect_same_units.h"
#include "models/small_gpt2.h"
#include "strata/models/checkpoint.h"
#include "strata/models/generate.h"
#include "strata/models/gpt2.h"
#include "strata/zero3/engine.h"

/// \file
/// A `Gpt2` in an engine is the `Gpt2` in memory.

namespace strata::models::gpt2_in_engine_test {
namespace {

namespace fs = std::filesystem;

struct Case {
  Precision precision;
  bool tied;
};

class Gpt2InEngine : public ::testing::TestWithParam<Case> {
 protected:
  Gpt2InEngine() {
    config_.tie_word_embeddings = GetParam().tied;
    config_.initializer_range = 0.1;
    config_.resid_pdrop = config_.embd_pdrop = config_.attn_pdrop = 0.1;
    root_ = fs::path(::testing::TempDir()) / ("strata_gpt2_" + std::to_string(::getpid()));
    fs::create_directories(root_);
    torch::manual_seed(1);
    tokens_ = torch::randint(config_.vocab_size, {2, 20}, torch::kInt64);
    targets_ = torch::randint(config_.vocab_size, {2, 20}, torch::kInt64);
  }
  ~Gpt2InEngine() override { fs::remove_all(root_); }

  /// Everything on NVMe, activations recomputed, no clipping. `keep_fp32` as JSON.
  Engine make_engine(const std::string& keep_fp32 = "[]") const {
    const Precision precision = GetParam().precision;
    const std::string format = precision == Precision::kBf16   ? R"("bf16": {"enabled": true},)"
                               : precision == Precision::kFp16 ? R"("fp16": {"enabled": true},)"
                                                               : "";
    const std::string text = "{" + format + R"("train_batch_size": 2, "gradient_clipping": 0.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
        "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"},
                              "offload_optimizer": {"device": "nvme"}},
        "strata": {"nvme": [")" +
                             root_.string() + R"("], "keep_fp32": )" + keep_fp32 + "}}";
    return Engine(formats::DsConfig::from_text(text, "ds_config.json"));
  }

  Gpt2 in_memory() const {
    return Gpt2(config_, GetParam().precision, random_initializer(config_, 3));
  }

  Gpt2 in_engine(Engine& engine) const {
    return Gpt2(config_, engine, random_initializer(config_, 3));
  }

  Gpt2Config config_ = small_gpt2();
  fs::path root_;
  torch::Tensor tokens_, targets_;
};

TEST_P(Gpt2InEngine, HasTheUnitsThatWereLaidOutWithoutIt) {
  Engine engine = make_engine(R"(["ln_*", "h.1.mlp.*"])");
  const Gpt2 model = in_engine(engine);
  const std::vector<zero3::UnitLayout> expected =
      unit_layouts(config_, engine.config().fp32_patterns());
  const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
  expect_same_units(units, expected);
  for (const zero3::UnitLayout& unit : units) {
    EXPECT_EQ(unit.fp32_trainable_count > 0, GetParam().precision != Precision::kFp32);
  }
}

TEST_P(Gpt2InEngine, ComputesTheSameBitsAsInMemory) {
  Engine engine = make_engine();
  Gpt2 model = in_engine(engine), reference = in_memory();
  torch::manual_seed(2);  // seed of the dropout
  const torch::Tensor loss = model.loss(tokens_, targets_);
  torch::manual_seed(2);
  const torch::Tensor expected = reference.loss(tokens_, targets_);
  EXPECT_EQ(loss.item<float>(), expected.item<float>());

  model.eval();
  reference.eval();
  torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(model.forward(tokens_), reference.forward(tokens_)));
  const std::vector<std::int64_t> prompt = {1, 2, 3};
  EXPECT_EQ(generate(model, prompt, {.count = 8}), generate(reference, prompt, {.count = 8}));
}

TEST_P(Gpt2InEngine, HasTheGradientsThatItHasInMemory) {
  Engine engine = make_engine();
  Gpt2 model = in_engine(engine), reference = in_memory();
  torch::manual_seed(2);
  const torch::Tensor loss = model.loss(tokens_, targets_);
  torch::manual_seed(9);  // recomputation does not read the generator as backward finds it
  engine.backward(loss);
  const StepReport report = engine.step();
  ASSERT_FALSE(report.overflow);

  torch::manual_seed(2);
  (reference.loss(tokens_, targets_) * report.loss_scale).backward();
  double sum_of_squares = 0.0;
  for (const torch::Tensor& parameter : reference.parameters()) {
    sum_of_squares += parameter.grad().to(torch::kFloat64).square().sum().item<double>();
  }
  const double expected = std::sqrt(sum_of_squares) / report.loss_scale;
  EXPECT_NEAR(report.grad_norm, expected, 1e-6 * expected);
}

TEST_P(Gpt2InEngine, IsSavedAsTheSameFiles) {
  Engine engine = make_engine(), keeping = make_engine(R"(["ln_*", "wpe.*"])");
  Gpt2 model = in_engine(engine), kept = in_engine(keeping), reference = in_memory();
  save_pretrained(model, root_ / "engine");
  save_pretrained(kept, root_ / "kept");
  save_pretrained(reference, root_ / "memory");
  for (const char* name : {"config.json", "model.safetensors"}) {
    const auto bytes_of = [&](const char* directory) {
      std::ifstream file(root_ / directory / name, std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(file), {});
    };
    EXPECT_FALSE(bytes_of("memory").empty());
    EXPECT_TRUE(bytes_of("engine") == bytes_of("memory")) << name;
    EXPECT_TRUE(bytes_of("kept") == bytes_of("memory")) << name;
  }
}

TEST_P(Gpt2InEngine, TrainsWithNormsInFp32) {
  Engine engine = make_engine(R"(["ln_*"])");
  Gpt2 model = in_engine(engine);
  double first = 0.0, last = 0.0;
  for (int step = 0; step < 8; ++step) {
    const torch::Tensor loss = model.loss(tokens_, targets_);
    engine.backward(loss);
    engine.step();
    last = loss.item<double>();
    if (step == 0) first = last;
  }
  EXPECT_LT(last, first);
}

INSTANTIATE_TEST_SUITE_P(
    All, Gpt2InEngine,
    ::testing::Values(Case{Precision::kFp32, true}, Case{Precision::kFp32, false},
                      Case{Precision::kBf16, true}, Case{Precision::kFp16, true}),
    [](const auto& test) {
      return std::string(name_of(test.param.precision)) + (test.param.tied ? "" : "_untied");
    });

}  // namespace
}  // namespace strata::models::gpt2_in_engine_test
