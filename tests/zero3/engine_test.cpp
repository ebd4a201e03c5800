#include "strata/zero3/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <span>
#include <sstream>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/zero3/ranged_initializer.h"
#include "support/temp_directory.h"
#include "zero3/small_engine.h"
#include "zero3/thread_world.h"

namespace strata::engine_test {
namespace {

using formats::OffloadDevice;
using testing::AllOf;
using testing::HasSubstr;
using tiering::Tier;

using small::config_for;
using small::input;
using small::kWidth;
using small::linear;
using small::message_of;
using small::train_once;
using small::weight_of;

TEST(Engine, KeepsTheValuesOfTheModulesItTakes) {
  for (const OffloadDevice device :
       {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    Engine engine(config_for(device));
    const torch::Tensor expected = linear(1)->weight.detach().clone();
    Sharded layer = engine.shard(linear(1), {.name = "layer"});
    EXPECT_TRUE(torch::equal(weight_of(layer), expected));
  }
}

/// Values that tell a parameter's elements apart.
float value_of(const std::string& name, std::uint64_t element) {
  return 1e-3f * static_cast<float>(element % 9973 + name.size()) - 3.0f;
}

RangedInitializer in_blocks(std::uint64_t block_elements) {
  return RangedInitializer(
      block_elements, [](const std::string& name, std::uint64_t begin, std::span<float> values) {
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = value_of(name, begin + i);
      });
}

TEST(Engine, PlacesValuesInBlocksAsItPlacesThemWhole) {
  for (const OffloadDevice device :
       {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
      const auto masters = [&](const ParameterInitializer& initializer) {
        Engine engine(config_for(device, precision));
        Sharded layer = engine.shard(torch::nn::Linear(157, 211),
                                     {.name = "layer", .initializer = initializer});
        return small::masters_of(engine);
      };
      const RangedInitializer ranged = in_blocks(1000);
      const auto in_parts = masters(ranged);
      const auto whole =
          masters([&](const std::string& name, torch::Tensor& value) { ranged(name, value); });
      ASSERT_EQ(in_parts.size(), 2u);
      for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_TRUE(torch::equal(in_parts[i], whole[i]));
        const auto values = in_parts[i].view({-1});
        for (std::int64_t e = 0; e < values.numel(); ++e) {
          ASSERT_EQ(values[e].item<float>(), value_of(i == 0 ? "layer.weight" : "layer.bias",
                                                      static_cast<std::uint64_t>(e)));
        }
      }
    }
  }
}

TEST(Engine, AnElementThatIsLeftOutOfABlockIsRefusedByItsPlace) {
  Engine engine(config_for(OffloadDevice::kNvme));
  const RangedInitializer leaves_one_out(
      1000, [](const std::string&, std::uint64_t begin, std::span<float> values) {
        std::ranges::fill(values, 1.0f);
        if (begin == 12000) values[345] = std::numeric_limits<float>::quiet_NaN();
      });
  EXPECT_THAT(message_of<DataError>([&] {
                std::ignore = engine.shard(torch::nn::Linear(157, 211),
                                           {.name = "layer", .initializer = leaves_one_out});
              }),
              AllOf(HasSubstr("layer.weight"), HasSubstr("at element 12345")));
  Sharded next =
      engine.shard(torch::nn::Linear(157, 211), {.name = "next", .initializer = in_blocks(1000)});
  EXPECT_EQ(weight_of(next).view({-1})[12345].item<float>(), value_of("next.weight", 12345));
}

TEST(Engine, AParameterOfAShardedUnitHasNoData) {
  Engine engine(config_for(OffloadDevice::kNvme));
  Sharded layer = engine.shard(linear(1), {.name = "layer"});
  EXPECT_THROW(std::ignore = layer->weight.sum().item<float>(), c10::Error);
}

TEST(Engine, GradientsOfInputsEqualPlainAutograd) {
  Engine engine(config_for(OffloadDevice::kNvme));
  Sharded layer = engine.shard(linear(1), {.name = "layer"});
  torch::nn::Linear plain = linear(1);
  torch::Tensor ours = input().requires_grad_(), theirs = input().requires_grad_();
  engine.backward(layer(ours).square().sum());
  plain(theirs).square().sum().backward();
  EXPECT_TRUE(torch::equal(ours.grad(), theirs.grad()));
}

TEST(Engine, FrozenParametersCostNoOptimizerStateAndStayAsTheyAre) {
  torch::nn::Linear module = linear(1);
  module->weight.set_requires_grad(false);
  const torch::Tensor before = module->weight.detach().clone();
  Engine engine(config_for(OffloadDevice::kCpu));
  Sharded layer = engine.shard(module, {.name = "layer"});
  for (int step = 0; step < 3; ++step) train_once(engine, layer(input()).square().sum());
  EXPECT_TRUE(torch::equal(weight_of(layer), before));
  for (const zero3::PlanItem& item : engine.plan().items) {
    if (item.what == "optimizer states") {
      EXPECT_EQ(item.bytes, 2 * 4096u);  // m and v of the bias
    }
  }
}

TEST(Engine, AUnitOfFrozenParametersPassesGradientsOn) {
  torch::nn::Linear frozen = linear(1), plain_frozen = linear(1);
  for (const auto& parameter : frozen->parameters()) parameter.set_requires_grad(false);
  Engine engine(config_for(OffloadDevice::kNvme));
  Sharded first = engine.shard(linear(2), {.name = "first"});
  Sharded second = engine.shard(frozen, {.name = "second"});
  torch::nn::Linear plain_first = linear(2);
  torch::optim::AdamW optimizer(plain_first->parameters(),
                                torch::optim::AdamWOptions(1e-2).weight_decay(0.0));
  train_once(engine, second(first(input())).square().sum());
  plain_frozen(plain_first(input())).square().sum().backward();
  optimizer.step();
  EXPECT_TRUE(torch::allclose(weight_of(first), plain_first->weight, 1e-6, 1e-7));
}

TEST(Engine, RecomputationSeesTheRandomNumbersOfTheFirstTime) {
  const auto gradient = [](bool recompute) {
    formats::DsConfig config = config_for(OffloadDevice::kNvme);
    config.strata.recompute = recompute;
    Engine engine(config);
    torch::nn::Sequential module(torch::nn::Linear(linear(1)), torch::nn::Dropout(0.5));
    Sharded layer = engine.shard(module, {.name = "layer"});
    torch::manual_seed(5);
    torch::Tensor x = input().requires_grad_();
    torch::manual_seed(6);
    const torch::Tensor loss = layer(x).square().sum();
    torch::rand({7});  // somebody else draws between forward and backward
    engine.backward(loss);
    return std::pair(x.grad().clone(), torch::rand({3}));
  };
  const auto [recomputed, after_recomputed] = gradient(true);
  const auto [kept, after_kept] = gradient(false);
  EXPECT_TRUE(torch::equal(recomputed, kept));
  EXPECT_TRUE(torch::equal(after_recomputed, after_kept)) << "recomputation moved the generator";
}

TEST(Engine, NoDecayPatternsExemptParameters) {
  formats::DsConfig config = config_for(OffloadDevice::kNvme);
  config.optimizer.weight_decay = 0.5;
  config.strata.no_decay = {"*.weight"};
  Engine engine(config);
  Sharded layer = engine.shard(linear(1), {.name = "layer"});
  torch::nn::Linear plain = linear(1);
  // Zero gradients: only decay would change a parameter.
  const torch::Tensor before = plain->weight.detach().clone();
  const torch::Tensor bias = plain->bias.detach().clone();
  train_once(engine, (layer(input()) * 0.0).sum());
  EXPECT_TRUE(torch::equal(weight_of(layer), before));
  layer.with_unsharded([&] { EXPECT_FALSE(torch::equal(layer->bias, bias)); });
}

TEST(Engine, FollowsAnOrderOfUnitsThatChanges) {
  Engine engine(config_for(OffloadDevice::kNvme));
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Sharded b = engine.shard(linear(2), {.name = "b"});
  torch::nn::Linear plain_a = linear(1), plain_b = linear(2);
  std::vector<torch::Tensor> parameters = plain_a->parameters();
  for (const auto& p : plain_b->parameters()) parameters.push_back(p);
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-2).weight_decay(0.0));
  for (int step = 0; step < 6; ++step) {
    const bool swapped = step % 3 == 1;
    const torch::Tensor x = input();
    train_once(engine, (swapped ? a(b(x)) : b(a(x))).square().mean());
    optimizer.zero_grad();
    (swapped ? plain_a(plain_b(x)) : plain_b(plain_a(x))).square().mean().backward();
    optimizer.step();
  }
  EXPECT_TRUE(torch::allclose(weight_of(a), plain_a->weight, 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(weight_of(b), plain_b->weight, 1e-4, 1e-5));
}

TEST(Engine, AUnitWithoutGradientIsNotUpdated) {
  Engine engine(config_for(OffloadDevice::kNvme));
  Sharded used = engine.shard(linear(1), {.name = "used"});
  Sharded unused = engine.shard(linear(2), {.name = "unused"});
  const torch::Tensor before = weight_of(unused);
  train_once(engine, used(input()).square().sum());
  EXPECT_TRUE(torch::equal(weight_of(unused), before));
}

TEST(Engine, AnOverflowInFp16SkipsTheStepAndChangesNothing) {
  for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    formats::DsConfig config = config_for(device, Precision::kFp16);
    config.fp16.initial_scale_power = 20;  // gradients of about 1 overflow
    config.fp16.hysteresis = 1;
    Engine engine(config);
    Sharded layer = engine.shard(linear(1), {.name = "layer"});
    const torch::Tensor before = weight_of(layer);
    const auto loss = [&] { return layer(input().to(torch::kFloat16)).to(torch::kFloat32).sum(); };
    engine.backward(loss());
    const StepReport skipped = engine.step();
    EXPECT_TRUE(skipped.overflow);
    EXPECT_FALSE(skipped.updated);
    EXPECT_EQ(skipped.step, 0);
    EXPECT_EQ(skipped.loss_scale, 1 << 20);
    EXPECT_TRUE(torch::equal(weight_of(layer), before));

    StepReport report = skipped;
    for (int attempt = 0; attempt < 20 && !report.updated; ++attempt) {
      engine.backward(loss());
      report = engine.step();
    }
    EXPECT_TRUE(report.updated);
    EXPECT_LT(report.loss_scale, 1 << 20);
    EXPECT_FALSE(torch::equal(weight_of(layer), before));
  }
}

TEST(Engine, StepsOnlyAtAccumulationBoundaries) {
  formats::DsConfig config = config_for(OffloadDevice::kNvme);
  config.gradient_accumulation_steps = 2;
  Engine engine(config);
  Sharded layer = engine.shard(linear(1), {.name = "layer"});
  const torch::Tensor before = weight_of(layer);
  engine.backward(layer(input()).sum());
  EXPECT_FALSE(engine.step().updated);
  EXPECT_TRUE(torch::equal(weight_of(layer), before));
  engine.backward(layer(input()).sum());
  const StepReport report = engine.step();
  EXPECT_TRUE(report.updated);
  EXPECT_EQ(report.step, 1);
}

TEST(Engine, ReportsTheNormBeforeClipping) {
  formats::DsConfig config = config_for(OffloadDevice::kNvme);
  config.gradient_clipping = 1e-3;
  Engine engine(config);
  Sharded layer = engine.shard(linear(1), {.name = "layer"});
  torch::nn::Linear plain = linear(1);
  engine.backward(layer(input()).square().sum());
  plain(input()).square().sum().backward();
  const double norm =
      torch::nn::utils::clip_grad_norm_(plain->parameters(), config.gradient_clipping);
  EXPECT_NEAR(engine.step().grad_norm, norm, 1e-5 * norm);
}

TEST(Engine, EvaluationBetweenStepsChangesNothing) {
  const auto train = [](bool evaluate) {
    Engine engine(config_for(OffloadDevice::kNvme));
    Sharded a = engine.shard(linear(1), {.name = "a"});
    Sharded b = engine.shard(linear(2), {.name = "b"});
    for (int step = 0; step < 4; ++step) {
      if (evaluate) {
        torch::NoGradGuard no_grad;
        for (int batch = 0; batch < 3; ++batch) std::ignore = b(a(input()));
      }
      train_once(engine, b(a(input())).square().mean());
    }
    return weight_of(a);
  };
  EXPECT_TRUE(torch::equal(train(true), train(false)));
}

TEST(Engine, NestedUnitsThatDoNotFitSaySo) {
  formats::DsConfig config = config_for(OffloadDevice::kNvme);
  Engine engine([&] {
    config.strata.device_budget_bytes = small::room_for_one_linear(config);
    return config;
  }());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Sharded b = engine.shard(linear(2), {.name = "b"});
  torch::nn::Linear outer = a.module();
  const auto nested = [&] {
    std::ignore = a.run([&](const torch::Tensor& x) { return outer->forward(b(x)); },
                        Recompute::kConfig, input());
  };
  EXPECT_THAT(message_of<BudgetError>(nested), HasSubstr("larger device budget"));
}

TEST(Engine, WithoutAHostBudgetSaysWhatBoundsHostMemory) {
  const EnginePlace place{.host_memory = HostMemoryBound{.available = 3_GiB,
                                                         .reserve = 1_GiB,
                                                         .source = "the memory cgroup /job"}};
  for (const bool is_named : {false, true}) {
    formats::DsConfig config = config_for(formats::OffloadDevice::kCpu);
    if (is_named) config.strata.host_budget_bytes = 1_GiB;
    std::ostringstream lines;
    Logger log(lines);
    Engine engine(config, place, &log);
    const auto layer = engine.shard(linear(1));
    engine.prepare();
    const char* const line =
        "host memory: no budget named; bounded by 2.00 GiB (3.00 GiB available of the memory "
        "cgroup /job, less 1.00 GiB for LibTorch's own memory)\n";
    EXPECT_EQ(lines.str().find(line) == std::string::npos, is_named) << lines.str();
  }
}

TEST(Engine, AUnitThatTheMachineCannotHoldIsRefusedBeforeItIsTaken) {
  const EnginePlace place{
      .host_memory = HostMemoryBound{.available = 5000, .reserve = 1000, .source = "this machine"}};
  Engine engine(config_for(formats::OffloadDevice::kCpu), place);
  torch::nn::Linear module = linear(1);
  EXPECT_THAT(message_of<BudgetError>([&] { (void)engine.shard(module); }),
              AllOf(HasSubstr("no host budget is named"), HasSubstr("this machine"),
                    HasSubstr("the smallest host budget that works")));
  EXPECT_TRUE(torch::equal(module->weight, linear(1)->weight));
  EXPECT_EQ(engine.use(Tier::kHost).used, 0u);
}

TEST(Engine, MisuseIsAnErrorThatSaysWhatToDo) {
  Engine engine(config_for(OffloadDevice::kNvme));
  EXPECT_THROW(engine.prepare(), UsageError);
  EXPECT_THROW(std::ignore = engine.step(), UsageError);
  torch::nn::Linear module = linear(1);
  Sharded layer = engine.shard(module, {.name = "layer"});
  EXPECT_THAT(
      message_of<UsageError>([&] { std::ignore = engine.shard(module, {.name = "again"}); }),
      HasSubstr("layer"));
  EXPECT_THAT(message_of<UsageError>(
                  [&] { std::ignore = engine.shard(torch::nn::ReLU(), {.name = "relu"}); }),
              HasSubstr("no parameters"));
  const torch::Tensor loss = layer(input()).sum();
  EXPECT_THROW(engine.backward(layer(input())), UsageError);
  engine.backward(loss);
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(layer(input()).sum()); }),
              HasSubstr("step()"));
  EXPECT_THAT(
      message_of<UsageError>([&] { std::ignore = engine.shard(linear(3), {.name = "late"}); }),
      HasSubstr("after the first forward"));
}

struct OnMetaImpl : torch::nn::Module {
  OnMetaImpl() { scale = register_parameter("scale", torch::empty({kWidth}, torch::kMeta)); }
  torch::Tensor forward(const torch::Tensor& x) { return x * scale; }
  torch::Tensor scale;
};
TORCH_MODULE(OnMeta);

TEST(Engine, AModuleOnTheMetaDeviceIsFilledByItsInitializer) {
  Engine engine(config_for(OffloadDevice::kNvme));
  Sharded layer = engine.shard(
      OnMeta(), {.name = "layer", .initializer = [](const std::string& name, torch::Tensor& value) {
                   EXPECT_EQ(name, "layer.scale");
                   value.fill_(3.0);
                 }});
  EXPECT_TRUE(torch::equal(layer(torch::ones({kWidth})), torch::full({kWidth}, 3.0f)));
}

TEST(Engine, AMetaParameterNeedsAnInitializer) {
  Engine engine(config_for(OffloadDevice::kNvme));
  OnMeta module;
  EXPECT_THAT(
      message_of<UsageError>([&] { std::ignore = engine.shard(module, {.name = "layer"}); }),
      HasSubstr("layer.scale"));
}

TEST(Engine, NvmeWithoutADirectoryIsAConfigError) {
  formats::DsConfig config = config_for(OffloadDevice::kNvme);
  config.strata.nvme_directories.clear();
  EXPECT_THAT(message_of<ConfigError>([&] { Engine engine(config); }), HasSubstr("nvme_path"));
}

/// Open files of this process below `directory`: those of nvme have no names, and so no other
/// trace.
std::size_t open_files_in(const std::filesystem::path& directory) {
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // what has been closed meanwhile
    const std::string file = std::filesystem::read_symlink(entry, gone).string();
    if (file.starts_with(directory.string() + "/")) ++found;
  }
  return found;
}

TEST(Engine, RanksOfAHostStripeOverAllDirectoriesOrEachHasItsOwn) {
  for (const auto& [mode, ranks_in_each] :
       {std::pair(formats::NvmeOfRanks::kStriped, 2U), std::pair(formats::NvmeOfRanks::kOwn, 1U)}) {
    const support::TempDirectory first, second;
    const auto thrown = zero3::run_ranks({.size = 2}, [&](zero3::Ranks& ranks) {
      formats::DsConfig config = config_for(OffloadDevice::kNvme);
      config.strata.nvme_directories = {first.path().string(), second.path().string()};
      config.strata.nvme_of_ranks = mode;
      Engine engine(config, EnginePlace{.ranks = &ranks});
      Sharded layer = engine.shard(linear(1), {.name = "layer"});
      EXPECT_GT(train_once(engine, layer(input()).square().mean()).grad_norm, 0.0);
      EXPECT_EQ(engine.config().nvme_directories().size(), ranks_in_each);
      double meeting = 1;
      engine.sum_over_ranks({&meeting, 1});
      EXPECT_EQ(open_files_in(first.path()), ranks_in_each);
      EXPECT_EQ(open_files_in(second.path()), ranks_in_each);
      engine.sum_over_ranks({&meeting, 1});
    });
    for (const std::exception_ptr& each : thrown) EXPECT_EQ(each, nullptr);
  }
}

}  // namespace
}  // namespace strata::engine_test
