#include "strata/models/checkpoint.h"
#include "strata/models/gpt2.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <map>

#include "models/small_gpt2.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"
#include "support/message_of.h"

namespace strata::models::gpt2_checkpoint_test {
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
    const auto config = checkpoint_config(directory).as<Gpt2Config>();
    return Gpt2(config, precision, checkpoint_initializer(config, directory));
  }

  /// A directory that holds `weights` under their names, written by hand.
  fs::path write_directory(const Weights& weights) const {
    const fs::path path = root_ / "by_hand";
    fs::remove_all(path);
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
    return support::message_of<DataError>([&] { (void)load(path); });
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

TEST_F(Gpt2Checkpoint, BringsAlongWhatBelongsToTheModel) {
  Gpt2 model = make();
  const fs::path source = root_ / "source";
  save_pretrained(model, source);
  const std::vector<std::string> carried = {"tokenizer.json",
                                            "vocab.json",
                                            "spiece.model",
                                            "added_tokens.json",
                                            "chat_template.jinja",
                                            "LICENSE",
                                            "special_tokens_map.json",
                                            "generation_config.json",
                                            "modeling_extra.py"};
  const std::vector<std::string> left = {
      "pytorch_model.bin",  "optimizer.pt", "model.onnx",     "pytorch_model.bin.index.json",
      "trainer_state.json", "README.md",    ".gitattributes", "metrics.jsonl"};
  for (const std::string& name : carried) std::ofstream(source / name) << "of the model";
  for (const std::string& name : left) std::ofstream(source / name) << "of another";
  fs::create_directories(source / "additional_chat_templates");
  std::ofstream(source / "additional_chat_templates" / "rag.jinja") << "{{ x }}";
  fs::create_directories(source / "checkpoint-500");
  std::ofstream(root_ / "secret") << "not the model's";
  fs::create_symlink(root_ / "secret", source / "merges.txt");

  const formats::ModelDirectory directory(source);
  save_pretrained(model, root_ / "out", {.source = &directory});
  for (const std::string& name : carried) EXPECT_TRUE(fs::exists(root_ / "out" / name)) << name;
  for (const std::string& name : left) EXPECT_FALSE(fs::exists(root_ / "out" / name)) << name;
  EXPECT_TRUE(fs::exists(root_ / "out" / "additional_chat_templates" / "rag.jinja"));
  EXPECT_FALSE(fs::exists(root_ / "out" / "checkpoint-500"));
  EXPECT_FALSE(fs::exists(root_ / "out" / "merges.txt"));
}

TEST_F(Gpt2Checkpoint, KeepsTheKeysOfTheConfigThatItCameWith) {
  Gpt2 model = make();
  const fs::path source = root_ / "source";
  save_pretrained(model, source);
  std::ofstream(source / "config.json")
      << R"({"custom_key": {"deep": [1, "a"]}, "pad_token_id": 3, )"
      << config_.to_json("float32", R"({"eos_token_id": [0, 1]})").substr(1);
  const formats::ModelDirectory directory(source);
  Gpt2 loaded = load(source, Precision::kBf16);
  save_pretrained(loaded, root_ / "out", {.source = &directory});
  const std::string text = formats::ModelDirectory(root_ / "out").config_text();
  EXPECT_LT(text.find("custom_key"), text.find("pad_token_id"));
  EXPECT_LT(text.find("pad_token_id"), text.find("eos_token_id"));
  EXPECT_LT(text.find("eos_token_id"), text.find("vocab_size"));
  EXPECT_THAT(text, AllOf(HasSubstr("bfloat16"), Not(HasSubstr("float32"))));
}

TEST_F(Gpt2Checkpoint, AWeightThatIsNotFiniteIsNeverWritten) {
  const auto initialize = [initial = random_initializer(config_, 9)](const std::string& name,
                                                                     torch::Tensor& value) {
    initial(name, value);
    if (name == "transformer.h.1.ln_2.bias") value[3] = std::numeric_limits<float>::quiet_NaN();
  };
  Gpt2 model(config_, Precision::kFp32, initialize);
  try {
    save_pretrained(model, root_ / "out");
    ADD_FAILURE() << "written";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("transformer.h.1.ln_2.bias"), HasSubstr("not finite")));
  }
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(Gpt2Checkpoint, ReadingAndWritingCanBeEndedFromOutside) {
  Gpt2 model = make();
  struct Ended {};
  const auto end = [] { throw Ended(); };
  EXPECT_THROW(save_pretrained(model, root_ / "out", {.before_each_piece = end}), Ended);
  EXPECT_TRUE(fs::is_empty(root_));
  save_pretrained(model, root_ / "out");
  const formats::ModelDirectory directory(root_ / "out");
  const ParameterInitializer initializer = checkpoint_initializer(config_, directory, end);
  EXPECT_THROW(Gpt2(config_, Precision::kFp32, initializer), Ended);
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

TEST_F(Gpt2Checkpoint, AHeadThatDiffersFromTheEmbeddingIsAHeadOfItsOwn) {
  Gpt2 model = make();
  Weights weights = weights_of(model);
  weights["lm_head.weight"] = weights["transformer.wte.weight"].clone();
  ASSERT_TRUE(config_.tie_word_embeddings);
  EXPECT_TRUE(load(write_directory(weights)).config().tie_word_embeddings);

  weights["lm_head.weight"][5][2] += 1;
  const fs::path path = write_directory(weights);
  Gpt2 loaded = load(path);
  EXPECT_FALSE(loaded.config().tie_word_embeddings);
  EXPECT_TRUE(torch::equal(weights_of(loaded).at("lm_head.weight"), weights["lm_head.weight"]));

  const formats::ModelDirectory directory(path);
  save_pretrained(loaded, root_ / "out", {.source = &directory});
  const Gpt2 again = load(root_ / "out");
  EXPECT_FALSE(again.config().tie_word_embeddings);

  try {  // whoever insists on the tie is told
    (void)checkpoint_initializer(config_, directory);
    ADD_FAILURE() << "the head is dropped";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("unexpected: lm_head.weight, which differs"));
  }
}

TEST_F(Gpt2Checkpoint, ATiedHeadMayBeStoredInThePlaceOfTheEmbedding) {
  Gpt2 model = make();
  Weights weights = weights_of(model);
  weights["lm_head.weight"] = weights["transformer.wte.weight"];
  weights.erase("transformer.wte.weight");
  expect_equal(std::move(model), load(write_directory(weights)));
}

TEST_F(Gpt2Checkpoint, PassesOverMasksAndNothingThatIsCalledLikeThem) {
  Gpt2 model = make();
  for (const auto& [name, tensor] : std::vector<std::pair<std::string, torch::Tensor>>{
           {"transformer.h.0.attn.bias", torch::ones({48})},
           {"transformer.h.0.attn.bias", torch::ones({1, 2, 24, 24})},
           {"transformer.h.0.attn.masked_bias", torch::ones({16})},
           {"transformer.adapter.attn.bias", torch::ones({1, 1, 24, 24})},
           {"transformer.h.0.attn.c_attn.lora_A", torch::ones({4, 4})}}) {
    Weights weights = weights_of(model);
    weights[name] = tensor;
    EXPECT_THAT(error_of(write_directory(weights)), HasSubstr("unexpected: " + name)) << name;
  }
}

TEST_F(Gpt2Checkpoint, IsReadWithWhatWrappersPutIntoNames) {
  const std::vector<std::pair<std::string, std::string>> wrappings = {
      {"", "_orig_mod."},
      {"", "module."},
      {"", "module._orig_mod."},
      {"", "model."},
      {"transformer.", "transformer._orig_mod."},
      {"transformer.h.1.", "transformer.h.1._orig_mod."}};
  for (const auto& [plain, wrapped] : wrappings) {
    config_.tie_word_embeddings = plain.empty();
    Gpt2 model = make();
    Weights weights;
    for (const auto& [name, value] : weights_of(model)) {
      weights[name.starts_with(plain) ? wrapped + name.substr(plain.size()) : name] = value;
    }
    expect_equal(std::move(model), load(write_directory(weights)));
  }
}

TEST_F(Gpt2Checkpoint, TwoTensorsForOneParameterAreRefused) {
  Gpt2 model = make();
  Weights weights = weights_of(model);
  weights["module.transformer.wpe.weight"] = weights["transformer.wpe.weight"];
  EXPECT_THAT(error_of(write_directory(weights)),
              AllOf(HasSubstr("module.transformer.wpe.weight"), HasSubstr("are both")));
}

TEST_F(Gpt2Checkpoint, AMessageShowsSomeOfEveryKindAndWhatAllNamesBeginWith) {
  Gpt2 model = make();
  Weights weights;
  for (const auto& [name, value] : weights_of(model)) weights["gpt.layers." + name + "_"] = value;
  EXPECT_THAT(error_of(write_directory(weights)),
              AllOf(HasSubstr("missing: transformer.wte.weight"), HasSubstr("more"),
                    HasSubstr("unexpected: gpt.layers."),
                    HasSubstr("all names in the files begin with \"gpt.layers.transformer.\"")));
}

TEST_F(Gpt2Checkpoint, AnAdapterBesideTheWeightsIsNotIgnored) {
  Gpt2 model = make();
  save_pretrained(model, root_ / "out");
  std::ofstream(root_ / "out" / "adapter_config.json") << "{}";
  EXPECT_THAT(error_of(root_ / "out"), AllOf(HasSubstr("adapter_config.json"), HasSubstr("merge")));
}

}  // namespace
}  // namespace strata::models::gpt2_checkpoint_test
