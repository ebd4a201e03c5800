#include "strata/formats/model_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <bit>
#include <cmath>
#include <limits>

#include "formats/file_location.h"
#include "formats/float_bits.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::model_directory_test {
namespace {

using support::message_of;
using support::TempDirectory;

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

/// Writes a file of scalars-in-a-vector: tensor i holds the number i.
void write_shard(const fs::path& path, const std::vector<std::string>& names) {
  std::vector<TensorInfo> tensors;
  for (const std::string& name : names) {
    tensors.push_back({.name = name, .dtype = DType::kF32, .shape = {1}});
  }
  SafetensorsWriter writer(path, tensors);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto value = static_cast<float>(i);
    writer.append(std::as_bytes(std::span(&value, 1)));
  }
  writer.finish();
}

class ModelDirectoryTest : public ::testing::Test {
 protected:
  ModelDirectoryTest() { write("config.json", R"({"model_type": "gpt2"})"); }

  void write(const std::string& name, std::string_view content) { directory_.write(name, content); }
  [[nodiscard]] const fs::path& path() const { return directory_.path(); }

  /// The message of the error that opening throws.
  [[nodiscard]] std::string error() const {
    return message_of<Error>([&] { const ModelDirectory model(path()); });
  }

  TempDirectory directory_;
};

TEST_F(ModelDirectoryTest, ReadsASingleFile) {
  write_shard(path() / "model.safetensors", {"b", "a"});
  const ModelDirectory model(path());
  EXPECT_THAT(model.names(), ElementsAre("a", "b"));
  EXPECT_EQ(model.config_text(), R"({"model_type": "gpt2"})");
  ASSERT_NE(model.find("a"), nullptr);
  EXPECT_EQ(model.find("a")->description(), "F32 [1]");
  EXPECT_EQ(model.find("c"), nullptr);
  float value = -1;
  model.read_f32("a", 0, {&value, 1});
  EXPECT_EQ(value, 1.0f);
}

TEST_F(ModelDirectoryTest, ReadsTheFilesOfAnIndex) {
  write_shard(path() / "model-00001-of-00002.safetensors", {"a", "b"});
  write_shard(path() / "model-00002-of-00002.safetensors", {"c"});
  write(kIndex, R"({"metadata": {"total_size": 12}, "weight_map": {
      "a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors",
      "b": "model-00001-of-00002.safetensors"}})");
  ModelDirectory moved(path());
  const ModelDirectory model = std::move(moved);
  EXPECT_THAT(model.names(), ElementsAre("a", "b", "c"));
  float value = -1;
  model.read_f32("b", 0, {&value, 1});
  EXPECT_EQ(value, 1.0f);
  model.read_f32("c", 0, {&value, 1});
  EXPECT_EQ(value, 0.0f);
  EXPECT_THAT(model.file_names(),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  EXPECT_EQ(model.file_name_of("b"), "model-00001-of-00002.safetensors");
  EXPECT_EQ(model.file_name_of("c"), "model-00002-of-00002.safetensors");
  EXPECT_THROW((void)model.file_name_of("d"), DataError);
}

TEST_F(ModelDirectoryTest, WidensHalfFormatsExactlyInPiecesOfAnyPlace) {
  constexpr std::size_t kCount = 100'000;  // several of the reader's pieces
  std::vector<std::uint16_t> bits(kCount);
  for (std::size_t i = 0; i < kCount; ++i) bits[i] = static_cast<std::uint16_t>(i * 7);
  SafetensorsWriter writer(path() / "model.safetensors",
                           {{.name = "bf16", .dtype = DType::kBF16, .shape = {kCount}},
                            {.name = "f16", .dtype = DType::kF16, .shape = {1000, kCount / 1000}}});
  writer.append(std::as_bytes(std::span(bits)));
  writer.append(std::as_bytes(std::span(bits)));
  writer.finish();
  const ModelDirectory model(path());
  for (const std::size_t begin : {0u, 1u, 32768u, 99'999u}) {
    std::vector<float> read(kCount - begin);
    model.read_f32("bf16", begin, read);
    for (std::size_t i = 0; i < read.size(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(read[i]), std::uint32_t{bits[begin + i]} << 16);
    }
    model.read_f32("f16", begin, read);
    for (std::size_t i = 0; i < read.size(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(read[i]),
                std::bit_cast<std::uint32_t>(float_from_f16(bits[begin + i])));
    }
  }
}

TEST(FloatBits, HalfPrecisionMeansWhatIeee754Says) {
  EXPECT_EQ(float_from_f16(0x3c00), 1.0f);
  EXPECT_EQ(float_from_f16(0xc000), -2.0f);
  EXPECT_EQ(float_from_f16(0x7bff), 65504.0f);
  EXPECT_EQ(float_from_f16(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(float_from_f16(0x03ff), std::ldexp(1023.0f, -24));
  EXPECT_EQ(float_from_f16(0x0400), std::ldexp(1.0f, -14));
  EXPECT_TRUE(std::signbit(float_from_f16(0x8000)));
  EXPECT_EQ(float_from_f16(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_EQ(float_from_f16(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(float_from_f16(0x7c01)));
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {  // by the definition, every finite one
    const int exponent = static_cast<int>(bits >> 10);
    const auto fraction = static_cast<float>(bits & 0x3ff);
    const float expected =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(float_from_f16(static_cast<std::uint16_t>(bits)), expected) << bits;
  }
}

TEST_F(ModelDirectoryTest, ReadingSaysWhatIsWrongWithATensor) {
  SafetensorsWriter writer(path() / "model.safetensors",
                           {{.name = "mask", .dtype = DType::kU8, .shape = {4}},
                            {.name = "w", .dtype = DType::kF32, .shape = {1}}});
  writer.append(std::vector<std::byte>(8));
  writer.finish();
  const ModelDirectory model(path());
  std::vector<float> out(2);
  EXPECT_THROW(model.read_f32("none", 0, out), DataError);
  EXPECT_THROW(model.read_f32("mask", 0, out), DataError);
  EXPECT_THROW(model.read_f32("w", 0, out), UsageError);
  EXPECT_THROW(model.read_f32("w", UINT64_MAX / 4 + 1, std::span(out).first(1)), UsageError);
}

TEST_F(ModelDirectoryTest, ADirectoryThatIsNoModelSaysWhatIsMissing) {
  EXPECT_THAT(error(), HasSubstr("neither model.safetensors nor"));
  fs::remove(path() / "config.json");
  EXPECT_THAT(error(), HasSubstr("has no config.json"));
  EXPECT_THROW(ModelDirectory(path() / "missing"), IoError);
  EXPECT_THROW(ModelDirectory(directory_.write("file", "x")), DataError);
}

struct HostileIndex {
  const char* what;
  std::string content;
  const char* words;
};

std::string naming(std::string_view json_string) {
  return R"({"weight_map": {"a": )" + std::string(json_string) + "}}";
}

TEST_F(ModelDirectoryTest, RefusesHostileIndexesAndSaysWhy) {
  write_shard(path() / "good.safetensors", {"a", "b"});
  write_shard(path() / "other.safetensors", {"c"});
  fs::create_directory(path() / "sub");
  write_shard(path() / "sub" / "inner.safetensors", {"a"});
  const char* const not_plain = "is not the plain name of a file";
  const std::vector<HostileIndex> indexes = {
      {"no JSON", "weights", "syntax error"},
      {"a list", "[]", "expected an object"},
      {"no weight_map", R"({"metadata": {}})", "\"weight_map\" is missing"},
      {"a list of weights", R"({"weight_map": []})", "expected an object"},
      {"no weights", R"({"weight_map": {}})", "names no tensor"},
      {"a number for a file", naming("1"), "expected a string"},
      {"a list for a file", naming(R"(["good.safetensors"])"), "expected a string"},
      {"a weight twice", R"({"weight_map": {"a": "good.safetensors", "a": "good.safetensors"}})",
       "stands twice"},
      {"two weight_maps", R"({"weight_map": {}, "weight_map": {}})", "stands twice"},
      {"an absolute name", naming(R"("/etc/passwd")"), not_plain},
      {"a parent", naming(R"("../good.safetensors")"), not_plain},
      {"a detour over a parent", naming(R"("sub/../good.safetensors")"), not_plain},
      {"a subdirectory", naming(R"("sub/inner.safetensors")"), not_plain},
      {"a backslash", naming(R"("..\\good.safetensors")"), not_plain},
      {"dots alone", naming(R"("..")"), not_plain},
      {"a dot alone", naming(R"(".")"), not_plain},
      {"an empty name", naming(R"("")"), not_plain},
      {"a NUL in the name", naming(R"("good.safetensors\u0000.txt")"), not_plain},
      {"a line feed in the name", naming(R"("good\n.safetensors")"), not_plain},
      {"a name of 300 bytes", naming("\"" + std::string(300, 'x') + "\""), not_plain},
      {"a file that is not there", naming(R"("missing.safetensors")"), "does not exist"},
      {"a directory", naming(R"("sub")"), "directory"},
      {"a file that is no safetensors", naming(R"("config.json")"), "config.json"},
      {"a tensor that is not in the file", R"({"weight_map": {"z": "good.safetensors"}})",
       "has no such tensor"},
      {"a tensor of another file",
       R"({"weight_map": {"a": "good.safetensors", "b": "good.safetensors",
           "c": "good.safetensors"}})",
       "has no such tensor"},
      {"a tensor that is not in the index", naming(R"("good.safetensors")"),
       "holds tensor \"b\", which"},
  };
  for (const auto& [what, content, words] : indexes) {
    write(kIndex, content);
    EXPECT_THAT(error(), HasSubstr(words)) << what;
  }
}

TEST_F(ModelDirectoryTest, IndexErrorsNameTheLine) {
  write(kIndex, "{\n\"weight_map\": {\n\"a\": \"x/y\"}}");
  EXPECT_THAT(error(), HasSubstr("model.safetensors.index.json:3: weight_map.a:"));
}

TEST_F(ModelDirectoryTest, FollowsLinksInsideTheDirectoryOnly) {
  const TempDirectory outside;
  write_shard(outside.path() / "stolen.safetensors", {"a"});
  write_shard(path() / "real.safetensors", {"a"});

  fs::create_symlink("real.safetensors", path() / "model.safetensors");
  EXPECT_EQ(error(), support::kNothingThrown);

  fs::remove(path() / "model.safetensors");
  fs::create_symlink(outside.path() / "stolen.safetensors", path() / "model.safetensors");
  EXPECT_THAT(error(), HasSubstr("outside of the model's directory"));

  fs::remove(path() / "model.safetensors");
  fs::create_symlink("model.safetensors", path() / "model.safetensors");  // to itself
  EXPECT_THAT(error(), HasSubstr("ELOOP"));

  fs::remove(path() / "model.safetensors");
  fs::create_symlink("nowhere", path() / "model.safetensors");
  EXPECT_THAT(error(), HasSubstr("ENOENT"));
}

TEST_F(ModelDirectoryTest, ALinkedConfigMayNotLeaveEither) {
  write_shard(path() / "model.safetensors", {"a"});
  fs::remove(path() / "config.json");
  fs::create_symlink("/etc/passwd", path() / "config.json");
  EXPECT_THAT(error(), HasSubstr("outside of the model's directory"));
}

TEST_F(ModelDirectoryTest, FollowsASnapshotsLinksIntoItsBlobs) {
  const TempDirectory cache;
  const fs::path model = cache.path() / "models--gpt2";
  const fs::path snapshot = model / "snapshots" / "0123abcd";
  fs::create_directories(snapshot);
  fs::create_directories(model / "blobs");
  fs::create_directories(cache.path() / "models--other" / "blobs");
  write_shard(model / "blobs" / "1111", {"a"});
  write_shard(cache.path() / "models--other" / "blobs" / "2222", {"a"});
  fs::copy_file(path() / "config.json", model / "blobs" / "3333");
  fs::create_symlink("../../blobs/1111", snapshot / "model.safetensors");
  fs::create_symlink("../../blobs/3333", snapshot / "config.json");
  EXPECT_THAT(ModelDirectory(snapshot).names(), ElementsAre("a"));

  fs::remove(snapshot / "model.safetensors");
  fs::create_symlink("../../../models--other/blobs/2222", snapshot / "model.safetensors");
  EXPECT_THROW(ModelDirectory{snapshot}, DataError);
}

TEST_F(ModelDirectoryTest, DoesNotWaitForAFifo) {
  ASSERT_EQ(::mkfifo((path() / "model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(error(), HasSubstr("a FIFO, not a regular file"));
}

TEST(PlainFileName, IsWhatFilesOfAModelAreCalled) {
  EXPECT_TRUE(is_plain_file_name("model-00001-of-00163.safetensors"));
  EXPECT_TRUE(is_plain_file_name("..model"));
  EXPECT_TRUE(is_plain_file_name(std::string(255, 'x')));
  EXPECT_FALSE(is_plain_file_name(std::string(256, 'x')));
  EXPECT_FALSE(is_plain_file_name("a/b"));
  EXPECT_FALSE(is_plain_file_name("\x7f"));
}

}  // namespace
}  // namespace strata::formats::model_directory_test
