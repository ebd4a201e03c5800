#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/expect_same_units.h"
#include "models/small_gpt2.h"
#include "strata/models/checkpoint.h"
#include "strata/models/gpt2.h"
#include "strata/zero3/engine.h"

/// \file
/// What a `Gpt2` in tiles has in common with the whole one, whatever is in tiles.

namespace strata::models {

using Parameters = std::vector<std::pair<std::string, torch::Tensor>>;

inline Parameters parameters_of(Gpt2& model) {
  Parameters parameters;
  model.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
    parameters.emplace_back(name, value.detach().clone());
  });
  return parameters;
}

inline std::vector<torch::Tensor> masters_of(Engine& engine) {
  std::vector<torch::Tensor> masters;
  engine.visit_masters(
      [&](const std::string&, const torch::Tensor& value) { masters.push_back(value.clone()); });
  return masters;
}

inline void expect_same(const std::vector<torch::Tensor>& left,
                        const std::vector<torch::Tensor>& right) {
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(torch::equal(left[i], right[i])) << "parameter " << i;
  }
}

/// A small model, three micro-batches, and a directory for everything on nvme.
class TiledGpt2 : public ::testing::Test {
 protected:
  explicit TiledGpt2(Precision precision) : precision_(precision) {
    config_.initializer_range = 0.1;
    root_ = std::filesystem::path(::testing::TempDir()) /
            ("strata_tiles_" + std::to_string(::getpid()));
    std::filesystem::create_directories(root_);
    torch::manual_seed(1);
    for (int i = 0; i < 3; ++i) {
      batch_.push_back({torch::randint(config_.vocab_size, {2, 20}, torch::kInt64),
                        torch::randint(config_.vocab_size, {2, 20}, torch::kInt64)});
    }
  }
  ~TiledGpt2() override { std::filesystem::remove_all(root_); }

  [[nodiscard]] formats::DsConfig everything_on_nvme(std::int64_t accumulation) const {
    return models::everything_on_nvme("tiled_gpt2", root_, precision_, accumulation);
  }

  [[nodiscard]] Gpt2 in_engine(Engine& engine) const {
    return Gpt2(config_, engine, random_initializer(config_, 3));
  }
  [[nodiscard]] Gpt2 in_memory() const {
    return Gpt2(config_, precision_, random_initializer(config_, 3));
  }
  /// The largest difference of a loss or logit.
  [[nodiscard]] double allowed() const { return precision_ == Precision::kFp32 ? 1e-5 : 2e-2; }

  /// The units that the engine has are those laid out without it.
  void expect_units(Engine& engine, const Gpt2Tiles& tiles) const {
    const Gpt2 model = in_engine(engine);
    const std::vector<zero3::UnitLayout> expected = unit_layouts(config_, {}, tiles);
    const std::vector<zero3::UnitLayout>& units = engine.plan_input().units;
    expect_same_units(units, expected);
  }

  static void expect_same_parameters(Gpt2& model, Gpt2& reference) {
    const Parameters parameters = parameters_of(model), expected = parameters_of(reference);
    ASSERT_EQ(parameters.size(), expected.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_EQ(parameters[i].first, expected[i].first);
      EXPECT_TRUE(torch::equal(parameters[i].second, expected[i].second)) << parameters[i].first;
    }
  }

  void expect_same_files(const formats::DsConfig& config) const {
    Engine engine(config);
    Gpt2 model = in_engine(engine), reference = in_memory();
    for (const std::uint64_t file_bytes_max : {std::uint64_t{1} << 30, std::uint64_t{4000}}) {
      const std::filesystem::path tiled = root_ / ("tiled" + std::to_string(file_bytes_max)),
                                  whole = root_ / ("whole" + std::to_string(file_bytes_max));
      save_pretrained(model, tiled, {.file_bytes_max = file_bytes_max});
      save_pretrained(reference, whole, {.file_bytes_max = file_bytes_max});
      std::ptrdiff_t files = 0;
      for (const auto& entry : std::filesystem::directory_iterator(whole)) {
        EXPECT_TRUE(text_of(entry.path()) == text_of(tiled / entry.path().filename()))
            << entry.path();
        ++files;
      }
      EXPECT_EQ(std::distance(std::filesystem::directory_iterator(tiled), {}), files);

      const formats::ModelDirectory directory(whole);
      Engine reading(config);
      Gpt2 read(checkpoint_config(directory).as<Gpt2Config>(), reading,
                checkpoint_initializer(config_, directory));
      expect_same_parameters(read, reference);
    }
  }

  void expect_same_gradients_up_to_roundings(const formats::DsConfig& config) const {
    Engine engine(config);
    Gpt2 model = in_engine(engine), reference = in_memory();
    engine.backward(model.loss(batch_[0][0], batch_[0][1]));
    std::map<std::string, std::vector<torch::Tensor>> pieces;
    engine.visit_gradients([&](const std::string& name, const torch::Tensor& value) {
      const bool is_tile = name.starts_with("tile_");
      pieces[is_tile ? name.substr(name.find('.') + 1) : name].push_back(value.clone());
    });
    const double scale = precision_ == Precision::kFp16 ? 1024.0 : 1.0;
    (reference.loss(batch_[0][0], batch_[0][1]) * scale).backward();
    std::vector<std::string> names;
    for (const zero3::UnitLayout& unit : unit_layouts(config_)) {
      for (const auto& parameter : unit.parameters) names.push_back(unit.full_name(parameter));
    }
    const std::vector<torch::Tensor> parameters = reference.parameters();
    ASSERT_EQ(parameters.size(), names.size());
    ASSERT_EQ(pieces.size(), names.size());
    const double share = precision_ == Precision::kFp32   ? 2e-6
                         : precision_ == Precision::kBf16 ? 3e-2
                                                          : 4e-3;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const torch::Tensor expected = parameters[i].grad().to(torch::kFloat64) / scale;
      const bool is_table = names[i].ends_with("wte.weight") || names[i].ends_with("head.weight");
      const torch::Tensor gradient =
          torch::cat(pieces.at(names[i]), is_table ? 0 : -1).to(torch::kFloat64);
      const double largest = expected.abs().max().item<double>();
      EXPECT_LE((gradient - expected).abs().max().item<double>(), share * largest) << names[i];
    }
  }

  /// Both train for three steps, to the same losses and the same masters.
  void expect_same_training(Engine& left, Engine& right) const {
    Gpt2 model = in_engine(left), reference = in_engine(right);
    const auto train = [&](Engine& engine, Gpt2& of) {
      const torch::Tensor loss = of.loss(batch_[0][0], batch_[0][1]);
      engine.backward(loss);
      engine.step();
      return loss.item<double>();
    };
    for (int step = 0; step < 3; ++step) EXPECT_EQ(train(left, model), train(right, reference));
    expect_same(masters_of(left), masters_of(right));
  }

  /// A batch's losses are those of the loop; each engine has made its step afterwards.
  void expect_losses_of_the_loop(Engine& batches, Engine& loop) const {
    Gpt2 model = in_engine(batches), reference = in_engine(loop);
    const BatchReport report = batches.train_batch(model.sequence(), batch_);
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      const torch::Tensor loss = reference.loss(batch_[i][0], batch_[i][1]);
      EXPECT_EQ(report.losses[i], loss.item<double>());
      loop.backward(loss);
      loop.step();
    }
  }

  /// `config` takes three micro-batches a step.
  void expect_same_bits_under_backward(const formats::DsConfig& config) const {
    if (precision_ == Precision::kFp16) return;  // its scale has to know all gradients
    formats::DsConfig early_config = config;
    early_config.strata.step_under_backward = true;
    Engine early(early_config), late(config);
    Gpt2 model = in_engine(early), reference = in_engine(late);
    for (int step = 0; step < 2; ++step) {
      const BatchReport report = early.train_batch(model.sequence(), batch_);
      EXPECT_EQ(report.losses, late.train_batch(reference.sequence(), batch_).losses);
    }
    expect_same(masters_of(early), masters_of(late));
  }

  const Precision precision_;
  Gpt2Config config_ = small_gpt2();
  std::filesystem::path root_;
  std::vector<UnitSequence::Tensors> batch_;

 private:
  static std::string text_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
};

}  // namespace strata::models
