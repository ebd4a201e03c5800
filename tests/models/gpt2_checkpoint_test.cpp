#include "strata/models/gpt2_checkpoint.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "models/small_gpt2.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"

namespace strata::models {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Weights = std::map<std::string, torch::Tensor>;

Weights weights_of(Gpt2& model) {
  Weights weights;
  model.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
    weights[name] = value.detach().clone();
  });
  return weights;
}

class Gpt2Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ("strata_checkpoint_" + std::to_string(::getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  Gpt2 make(Precision precision = Precision::kFp32) const {
    return Gpt2(config_, precision, random_initializer(config_, 9));
  }

  static Gpt2 load(const fs::path& path, Precision precision = Precision::kFp32) {
    const formats::ModelDirectory directory(path);
    const auto config = Gpt2Config::from_json(directory.config_text(), "config.json");
    return Gpt2(config, precision, checkpoint_initializer(config, directory));
  }

  /// A directory that holds `weights` under their names, written by hand.
  fs::path write_directory(const Weights& weights) const {
    const fs::path path = root_ / "by_hand";
    fs::create_directories(path);
    std::ofstream(path / "config.json") << config_.to_json("float32");
    std::vector<formats::TensorInfo> tensors;
    for (const auto& [name, value] : weights) {
      tensors.push_back(
          {.name = name, .dtype = formats::DType::kF32, .shape = value.sizes().vec()});
    }
    formats::SafetensorsWriter writer(path / "model.safetensors", tensors);
    for (const auto& [name, value] : weights) {
      writer.append(std::as_bytes(std::span(static_cast<const char*>(value.const_data_ptr()),
                                            static_cast<std::size_t>(value.nbytes()))));
    }
    writer.finish();
    return path;
  }

  static std::string error_of(const fs::path& path) {
    try {
      (void)load(path);
    } catch (const DataError& error) {
      return error.what();
    }
    return "no error";
  }

  static void expect_equal(Gpt2 a, Gpt2 b) {
    const Weights of_a = weights_of(a), of_b = weights_of(b);
    ASSERT_EQ(of_a.size(), of_b.size());
    for (const auto& [name, value] : of_a) EXPECT_TRUE(torch::equal(value, of_b.at(name))) << name;
  }

  Gpt2Config config_ = small_gpt2();
  fs::path root_;
};

TEST_F(Gpt2Checkpoint, ComesBackBitByBitInEveryFormat) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    for (const bool tied : {true, false}) {
      config_.tie_word_embeddings = tied;
      Gpt2 model = make(precision);
      const fs::path path = root_ / (std::string(name_of(precision)) + (tied ? "" : "_untied"));
      save_pretrained(model, path);
      expect_equal(std::move(model), load(path, precision));
    }
  }
}

TEST_F(Gpt2Checkpoint, StoresATiedHeadOnce) {
  Gpt2 model = make();
  save_pretrained(model, root_ / "out");
  const formats::SafetensorsFile file(root_ / "out" / "model.safetensors");
  EXPECT_EQ(file.find("lm_head.weight"), nullptr);
  EXPECT_NE(file.find("transformer.wte.weight"), nullptr);
}

TEST_F(Gpt2Checkpoint, IsSplitIntoFilesOfTheAskedSize) {
  Gpt2 model = make();
  save_pretrained(model, root_ / "out", {.file_bytes_max = 10'000});
  EXPECT_TRUE(fs::exists(root_ / "out" / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(root_ / "out" / "model.safetensors"));
  int files = 0;
  for (const auto& entry : fs::directory_iterator(root_ / "out")) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    EXPECT_LT(entry.file_size(), 12'500u) << entry.path();  // with its header
  }
  EXPECT_GT(files, 3);
  expect_equal(std::move(model), load(root_ / "out"));
}

TEST_F(Gpt2Checkpoint, BringsTheTokenizerFilesAlong) {
  Gpt2 model = make();
  const fs::path source = root_ / "source";
  save_pretrained(model, source);
  std::ofstream(source / "tokenizer.json") << "{}";
  std::ofstream(source / "vocab.json") << "{}";
  std::ofstream(source / "pytorch_model.bin") << "weights";
  std::ofstream(root_ / "secret") << "not the model's";
  fs::create_symlink(root_ / "secret", source / "merges.txt");

  const formats::ModelDirectory directory(source);
  save_pretrained(model, root_ / "out", {.tokenizer_source = &directory});
  EXPECT_TRUE(fs::exists(root_ / "out" / "tokenizer.json"));
  EXPECT_TRUE(fs::exists(root_ / "out" / "vocab.json"));
  EXPECT_FALSE(fs::exists(root_ / "out" / "pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(root_ / "out" / "merges.txt"));
}

TEST_F(Gpt2Checkpoint, LeavesADirectoryThatExistsAlone) {
  const fs::path out = root_ / "out";
  fs::create_directories(out);
  std::ofstream(out / "notes.txt") << "keep";
  Gpt2 model = make();
  EXPECT_THROW(save_pretrained(model, out), Error);
  EXPECT_TRUE(fs::exists(out / "notes.txt"));
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), {}), 1);
}

TEST_F(Gpt2Checkpoint, IsReadWithoutThePrefixAndWithOldBuffers) {
  Gpt2 model = make();
  Weights bare;
  for (const auto& [name, value] : weights_of(model)) {
    bare[name.substr(std::string("transformer.").size())] = value;
  }
  bare["h.0.attn.bias"] = torch::ones({1, 1, 24, 24});
  bare["h.0.attn.masked_bias"] = torch::zeros({1});
  bare["lm_head.weight"] = bare["wte.weight"];
  expect_equal(std::move(model), load(write_directory(bare)));
}

TEST_F(Gpt2Checkpoint, ListsEverythingThatDoesNotFitInOneError) {
  Gpt2 model = make();
  Weights weights = weights_of(model);
  weights.erase("transformer.h.1.mlp.c_fc.bias");
  weights.erase("transformer.wpe.weight");
  weights["transformer.ln_f.weight"] = torch::ones({17});
  weights["transformer.h.7.ln_1.bias"] = torch::ones({16});
  EXPECT_THAT(error_of(write_directory(weights)),
              AllOf(HasSubstr("by_hand"), HasSubstr("missing: transformer.h.1.mlp.c_fc.bias [64]"),
                    HasSubstr("missing: transformer.wpe.weight"),
                    HasSubstr("transformer.ln_f.weight is F32 [17]"),
                    HasSubstr("unexpected: transformer.h.7.ln_1.bias"),
                    Not(HasSubstr("transformer.wte.weight"))));
}

TEST_F(Gpt2Checkpoint, NeedsTheHeadWhenItIsNotTied) {
  Gpt2 model = make();
  const Weights weights = weights_of(model);
  config_.tie_word_embeddings = false;
  EXPECT_THAT(error_of(write_directory(weights)), HasSubstr("missing: lm_head.weight [37, 16]"));
}

}  // namespace
}  // namespace strata::models
