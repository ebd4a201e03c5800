#include "strata/zero3/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/safetensors.h"
#include "support/temp_directory.h"
#include "zero3/layer_stack.h"

/// \file
/// What a checkpoint holds of an engine beside the states of ordinary units, and what is refused.

namespace strata {
namespace {

namespace fs = std::filesystem;
using small::expect_same;
using small::input;
using small::linear;
using small::masters_of;
using small::message_of;
using small::on_nvme;
using small::Stack;
using small::train_once;
using support::TempDirectory;
using testing::HasSubstr;
using torch::Tensor;

void change_byte(const fs::path& path, std::int64_t place) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(place, place < 0 ? std::ios::end : std::ios::beg);
  const char byte = static_cast<char>(file.peek());
  file.seekp(place, place < 0 ? std::ios::end : std::ios::beg);
  file.put(static_cast<char>(byte ^ 0x10));
}

// ---- what comes back ---------------------------------------------------------------------------

TEST(Checkpoint, IsPlainSafetensorsUnderFullNames) {
  const TempDirectory directory;
  Stack run(on_nvme(Precision::kBf16), 2, {0});
  run.train(1);
  const CheckpointInfo info = run.engine.save_checkpoint(directory.path());
  EXPECT_EQ(info.tag, "step_00000001");
  const formats::SafetensorsFile weights(info.path / "weight.safetensors");
  ASSERT_EQ(weights.tensors().size(), 4u);
  EXPECT_EQ(weights.find("layers.1.weight")->description(), "BF16 [24, 24]");
  const formats::SafetensorsFile moments(info.path / "m.safetensors");
  EXPECT_EQ(moments.find("layers.0.weight"), nullptr);  // frozen
  EXPECT_EQ(moments.find("layers.0.bias")->description(), "F32 [24]");
  const formats::SafetensorsFile masters(info.path / "master.safetensors");
  const Tensor low = torch::empty({24, 24}, torch::kInt16), high = torch::empty_like(low);
  const auto read = [](const formats::SafetensorsFile& file, const Tensor& into) {
    file.read(*file.find("layers.1.weight"), 0,
              {static_cast<std::byte*>(into.mutable_data_ptr()), into.nbytes()});
  };
  read(weights, high);
  read(masters, low);
  const Tensor bits = high.to(torch::kInt32) * 65536 + low.to(torch::kInt32);
  EXPECT_TRUE(torch::equal(bits.view(torch::kFloat32), masters_of(run.engine)[2]));
}

TEST(Checkpoint, HasThePlaceInScheduleRatesAndLossScale) {
  const TempDirectory directory;
  formats::DsConfig config = on_nvme(Precision::kFp16);
  config.fp16.initial_scale_power = 4;
  config.fp16.loss_scale_window = 2;
  config.scheduler.type = formats::SchedulerType::kWarmupDecayLR;
  config.scheduler.warmup_max_lr = 1e-2;
  config.scheduler.warmup_num_steps = 3;
  config.set_total_steps(9);
  Stack whole(config), resumed(config);
  for (std::uint64_t batch = 0; batch < 3; ++batch) whole.train(batch);
  whole.engine.set_lr(0.5);
  whole.engine.save_checkpoint(directory.path());
  EXPECT_NE(resumed.engine.lr(), 0.5);
  EXPECT_EQ(resumed.engine.load_checkpoint(directory.path()).step, 3);
  EXPECT_EQ(resumed.engine.lr(), 0.5);
  for (Stack* const run : {&whole, &resumed}) run->engine.follow_schedule();
  EXPECT_EQ(resumed.engine.lr(), whole.engine.lr());
  for (std::uint64_t batch = 3; batch < 6; ++batch) {
    const StepReport expected = whole.train(batch), actual = resumed.train(batch);
    EXPECT_EQ(actual.step, expected.step);
    EXPECT_EQ(actual.lr, expected.lr);
    EXPECT_EQ(actual.loss_scale, expected.loss_scale);
    EXPECT_EQ(actual.grad_norm, expected.grad_norm);
  }
  expect_same(masters_of(resumed.engine), masters_of(whole.engine));
}

TEST(Checkpoint, HasEveryParametersOwnCountOfSteps) {
  const TempDirectory directory;
  Stack whole(on_nvme()), resumed(on_nvme());
  const auto train_first_alone = [](Stack& run) {
    train_once(run.engine, run.layers[0](input()).square().mean());
  };
  train_first_alone(whole);
  whole.train(1);
  train_first_alone(whole);
  whole.engine.save_checkpoint(directory.path());
  resumed.engine.load_checkpoint(directory.path());
  for (Stack* const run : {&whole, &resumed}) run->train(2);
  expect_same(masters_of(resumed.engine), masters_of(whole.engine));
}

struct WithDropoutImpl : torch::nn::Module {
  explicit WithDropoutImpl(at::Generator source)
      : layer(register_module("layer", linear(1))),
        norm(register_module("norm", torch::nn::BatchNorm1d(small::kWidth))),
        own(std::move(source)) {}
  Tensor forward(const Tensor& x) {
    const Tensor noise = torch::empty_like(x).normal_(0, 1, own);
    return norm(torch::dropout(layer(x + noise), 0.5, /*train=*/true));
  }
  torch::nn::Linear layer;
  torch::nn::BatchNorm1d norm;
  at::Generator own;
};
TORCH_MODULE(WithDropout);

TEST(Checkpoint, HasRandomGeneratorsAndBuffers) {
  const TempDirectory directory;
  const auto make = [](Engine& engine, std::uint64_t seed) {
    const at::Generator own = at::make_generator<at::CPUGeneratorImpl>(seed);
    return engine.shard(WithDropout(own), {.name = "unit", .generators = {own}});
  };
  const auto train = [](Engine& engine, Sharded<WithDropout>& unit, const Tensor& x) {
    train_once(engine, unit(x).square().mean());
  };
  const Tensor x = input();
  Engine engine(on_nvme());
  Sharded<WithDropout> unit = make(engine, 5);
  torch::manual_seed(3);
  for (int step = 0; step < 2; ++step) train(engine, unit, x);
  engine.save_checkpoint(directory.path());
  for (int step = 0; step < 2; ++step) train(engine, unit, x);
  Engine other(on_nvme());
  Sharded<WithDropout> copy = make(other, 6);
  torch::manual_seed(4);
  other.load_checkpoint(directory.path());
  for (int step = 0; step < 2; ++step) train(other, copy, x);
  expect_same(masters_of(other), masters_of(engine));
  expect_same(copy->norm->buffers(), unit->norm->buffers());
}

TEST(Checkpoint, GivesTheProgramBackWhatItGave) {
  const TempDirectory directory;
  Stack run(on_nvme());
  const std::map<std::string, std::string> program = {{"batch", "12"}, {"text", "a \"b\"\nc"}};
  run.engine.save_checkpoint(directory.path(), "mine", {.program = program});
  const auto found = find_checkpoint(directory.path());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->tag, "mine");
  EXPECT_EQ(found->program, program);
  EXPECT_EQ(run.engine.load_checkpoint(directory.path()).program, program);
  EXPECT_EQ(find_checkpoint(directory / "elsewhere"), std::nullopt);
}

TEST(Checkpoint, LeavesAsManyAsItIsTold) {
  const TempDirectory directory;
  Stack run(on_nvme());
  for (std::uint64_t step = 0; step < 4; ++step) {
    run.train(step);
    run.engine.save_checkpoint(directory.path(), {}, {.keep = 2});
  }
  EXPECT_FALSE(fs::exists(directory / "step_00000002"));
  run.engine.load_checkpoint(directory.path(), "step_00000003");
  EXPECT_EQ(run.train(9).step, 4);
}

TEST(Checkpoint, IsLoadedIntoAnEngineThatHasTrained) {
  const TempDirectory directory;
  formats::DsConfig config = on_nvme(Precision::kBf16);
  config.gradient_accumulation_steps = 2;
  Stack whole(config), other(config);
  for (std::uint64_t batch = 0; batch < 4; ++batch) whole.train(batch);
  whole.engine.save_checkpoint(directory.path());
  for (std::uint64_t batch = 7; batch < 10; ++batch) other.train(batch);  // in mid-step
  other.engine.load_checkpoint(directory.path());
  for (Stack* const run : {&whole, &other}) {
    for (std::uint64_t batch = 4; batch < 8; ++batch) run->train(batch);
  }
  expect_same(masters_of(other.engine), masters_of(whole.engine));
}

// ---- what is refused ---------------------------------------------------------------------------

class RefusedCheckpoint : public testing::Test {
 protected:
  RefusedCheckpoint() {
    for (std::uint64_t batch = 0; batch < 2; ++batch) run_.train(batch);
    path_ = run_.engine.save_checkpoint(directory_.path()).path;
  }

  /// The message with which loading is refused; fails the test unless the engine is as before.
  template <class Exception = DataError>
  std::string refusal(Stack& run) {
    const std::vector<Tensor> before = masters_of(run.engine);
    const double rate = run.engine.lr();
    const std::string message =
        message_of<Exception>([&] { run.engine.load_checkpoint(directory_.path()); });
    expect_same(masters_of(run.engine), before);
    EXPECT_EQ(run.engine.lr(), rate);
    run.train(5);
    return message;
  }

  formats::DsConfig config_ = on_nvme(Precision::kBf16);
  TempDirectory directory_;
  Stack run_{config_};
  fs::path path_;
};

TEST_F(RefusedCheckpoint, IsOneWithAnyFileDamaged) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path_)) files.push_back(entry.path());
  EXPECT_EQ(files.size(), 6u);
  for (const fs::path& file : files) {
    const auto size = static_cast<std::int64_t>(fs::file_size(file));
    for (const std::int64_t place : {std::int64_t{0}, std::int64_t{12}, size / 2, size - 1}) {
      change_byte(file, place);
      EXPECT_THAT(refusal(run_), HasSubstr(file.string())) << place;
      change_byte(file, place);
    }
    for (const std::int64_t rest : {std::int64_t{0}, size / 2, size - 1}) {
      const fs::path kept = directory_ / "kept";
      fs::copy_file(file, kept);
      fs::resize_file(file, static_cast<std::uintmax_t>(rest));
      EXPECT_THAT(refusal(run_), HasSubstr(file.string())) << rest << " bytes";
      fs::rename(kept, file);
    }
    if (file.filename() == "manifest.json") continue;
    fs::rename(file, directory_ / "kept");
    EXPECT_THAT(refusal(run_), HasSubstr(file.string()));
    fs::rename(directory_ / "kept", file);
  }
  run_.engine.load_checkpoint(directory_.path());
}

/// A bad disk, or another program, between the time when checksums were compared and the reading.
TEST_F(RefusedCheckpoint, IsOneWhoseBytesChangeWhileTheyAreRead) {
  for (const char* name : {"weight", "master", "m", "v"}) {
    const fs::path file = path_ / (std::string(name) + ".safetensors");
    Stack run(config_);
    bool is_changed = false;
    const auto change = [&] {
      if (!std::exchange(is_changed, true)) change_byte(file, -1);
    };
    EXPECT_THAT(
        message_of<DataError>([&] { run.engine.load_checkpoint(directory_.path(), {}, change); }),
        HasSubstr(file.string()));
    EXPECT_TRUE(is_changed);
    EXPECT_THAT(message_of<UsageError>([&] { run.train(0); }),
                HasSubstr("load_checkpoint() failed in the middle"));
    change_byte(file, -1);
  }
  run_.engine.load_checkpoint(directory_.path());
}

TEST_F(RefusedCheckpoint, IsOneThatIsNotThere) {
  EXPECT_THAT(message_of<IoError>([&] { run_.engine.load_checkpoint(directory_ / "none"); }),
              HasSubstr("no checkpoint was ever completed there"));
  EXPECT_THROW(run_.engine.load_checkpoint(directory_.path(), "other"), IoError);
  EXPECT_THROW(run_.engine.load_checkpoint(directory_.path(), "../x"), ConfigError);
  fs::remove(path_ / "manifest.json");
  EXPECT_THAT(refusal<IoError>(run_), HasSubstr("manifest.json"));
}

TEST_F(RefusedCheckpoint, IsOneOfAnotherModel) {
  Stack more(config_, 3), wider(config_, 2, {}, small::kWidth + 8), frozen(config_, 2, {1});
  EXPECT_THAT(refusal(more), HasSubstr("it has 2 units, and this engine has 3"));
  EXPECT_THAT(refusal(wider), HasSubstr("tensor 'layers.1.weight' is BF16 [24, 24], and this "
                                        "engine's is BF16 [32, 24]"));
  EXPECT_THAT(refusal(frozen), HasSubstr("parameter 'layers.1.weight' is trained in the "
                                         "checkpoint and frozen here"));
}

TEST_F(RefusedCheckpoint, IsOneOfAnotherOptimizerOrFormat) {
  formats::DsConfig config = config_;
  config.optimizer.type = formats::OptimizerType::kLion;
  Stack lion(config);
  EXPECT_THAT(refusal(lion), HasSubstr("trained with optimizer adamw"));
  config = config_;
  config.strata.states.moments = MomentFormat::kInt8;
  Stack int8(config);
  EXPECT_THAT(refusal(int8), HasSubstr("trained with moments fp32"));
  Stack fp32(on_nvme());
  EXPECT_THAT(refusal(fp32), HasSubstr("trained with precision bf16"));
}

TEST_F(RefusedCheckpoint, IsOneOfALongerAccumulation) {
  formats::DsConfig config = config_;
  config.gradient_accumulation_steps = 3;
  Stack longer(config);
  for (std::uint64_t batch = 0; batch < 2; ++batch) longer.train(batch);
  longer.engine.save_checkpoint(directory_.path());
  config.gradient_accumulation_steps = 2;
  Stack shorter(config);
  EXPECT_THAT(refusal(shorter), HasSubstr("after 2 micro-batches of a step"));
}

TEST_F(RefusedCheckpoint, IsOneWithRatesOfGroupsThatThereAreNot) {
  Engine engine(config_);
  engine.add_parameter_group({.name = "head", .patterns = {"*"}});
  auto unit = engine.shard(linear(0), {.name = "layers.0"});
  engine.set_lr(0.1, "head");
  engine.save_checkpoint(directory_.path());
  Stack run(config_, 1);
  EXPECT_THAT(refusal(run), HasSubstr("head"));
}

TEST(Checkpoint, IsNotSavedOrLoadedWhileAUnitIsInUse) {
  const TempDirectory directory;
  Stack run(on_nvme());
  run.layers[0].with_unsharded([&] {
    EXPECT_THROW(run.engine.save_checkpoint(directory.path()), UsageError);
    EXPECT_THROW(run.engine.load_checkpoint(directory.path()), Error);
  });
  EXPECT_EQ(find_checkpoint(directory.path()), std::nullopt);
}

TEST(Checkpoint, ThatCannotBeWrittenLeavesTheRunAndTheOneBefore) {
  const TempDirectory directory;
  Stack run(on_nvme());
  run.train(1);
  run.engine.save_checkpoint(directory.path());
  directory.write("file", "");
  EXPECT_THROW(run.engine.save_checkpoint(directory / "file"), ConfigError);
  EXPECT_THROW(run.engine.save_checkpoint(directory.path(), "a/b"), ConfigError);
  EXPECT_THROW(run.engine.save_checkpoint(directory.path(), "x", {.program = {{"\xff", ""}}}),
               UsageError);
  EXPECT_FALSE(fs::exists(directory / "x"));
  EXPECT_EQ(run.train(2).step, 2);
  EXPECT_EQ(run.engine.load_checkpoint(directory.path()).step, 1);
}

}  // namespace
}  // namespace strata
