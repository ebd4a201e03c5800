#include "strata/zero3/checkpoint_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/optim_cpu/convert.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata {
namespace {

using formats::DType;
using support::message_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// A tensor and its bytes.
struct Stored {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

template <class Number>
Stored tensor(const std::string& name, DType dtype, const std::vector<Number>& numbers) {
  const auto bytes = std::as_bytes(std::span(numbers));
  return {name, dtype, {static_cast<std::int64_t>(numbers.size())}, {bytes.begin(), bytes.end()}};
}

/// A checkpoint of a bf16 run, in which tests change a file or what the manifest says.
class CheckpointValuesTest : public testing::Test {
 protected:
  CheckpointValuesTest() {
    StateFormat format(Precision::kBf16);
    std::vector<std::uint16_t> weight(kMasters.size());
    std::vector<std::int16_t> low(kMasters.size());
    optim_cpu::split_master(format, kMasters, weight.data(), low.data());
    files_["weight"] = {tensor("trained", DType::kBF16, weight),
                        tensor("late", DType::kBF16, std::vector<std::uint16_t>{0x3f80}),
                        tensor("frozen", DType::kF16, std::vector<std::uint16_t>{0x3c00, 0xbc00})};
    files_["master"] = {tensor("trained", DType::kI16, low),
                        tensor("late", DType::kI16, std::vector<std::int16_t>{1})};
    files_["m"] = {tensor("trained", DType::kBF16, std::vector<std::uint16_t>{0x3f80, 0x4000, 0})};
    files_["v"] = {tensor("trained", DType::kF32, std::vector<float>{1e-30f, 2, 3})};
  }

  /// Writes the checkpoint and opens it.
  [[nodiscard]] CheckpointValues open(bool moments = true) const {
    formats::CheckpointHead head{.tag = "here", .step = 7};
    for (const auto& [name, tensors] : files_) {
      const std::string file = name + ".safetensors";
      std::filesystem::remove(directory_ / file);
      std::vector<formats::TensorInfo> infos;
      for (const Stored& stored : tensors) {
        infos.push_back({.name = stored.name, .dtype = stored.dtype, .shape = stored.shape});
      }
      formats::SafetensorsWriter out(directory_ / file, infos);
      for (const Stored& stored : tensors) out.append(stored.bytes);
      out.finish();
      const auto bytes = std::filesystem::file_size(directory_ / file);
      head.files.push_back({file, formats::checksum_of(directory_ / file, 0, bytes)});
    }
    directory_.write(std::string(formats::kManifestName), manifest_text(head, sections_));
    return {directory_.path(), moments};
  }
  [[nodiscard]] std::string refusal() const {
    return message_of<DataError>([&] { (void)open(); });
  }

  // The last one's low bits are below zero.
  const std::vector<float> kMasters = {1.0f, -3.14159274f, std::nextafter(2.0f, 3.0f) + 0.0117f};
  std::map<std::string, std::vector<Stored>> files_;
  std::vector<std::pair<std::string, std::string>> sections_ = {
      {"states", R"({"optimizer": "adamw", "precision": "bf16"})"},
      {"frozen", R"(["frozen"])"},
      {"steps", R"({"all": 7, "but": {"late": 2}})"}};
  support::TempDirectory directory_;
};

TEST_F(CheckpointValuesTest, AreTheMastersMomentsAndCountsOfStepsThatWereTrained) {
  const CheckpointValues values = open();
  EXPECT_EQ(values.optimizer(), "adamw");
  EXPECT_EQ(values.precision(), Precision::kBf16);
  EXPECT_EQ(values.info().step, 7);
  ASSERT_EQ(values.parameters().size(), 3u);
  const auto& [trained, late, frozen] =
      std::tie(values.parameters()[0], values.parameters()[1], values.parameters()[2]);
  EXPECT_EQ(trained.steps, 7);
  EXPECT_EQ(late.steps, 2);
  EXPECT_FALSE(frozen.trainable);
  EXPECT_EQ(frozen.steps, 0);

  std::vector<float> numbers(3);
  values.read_masters(trained, 0, numbers);
  EXPECT_EQ(numbers, kMasters);
  std::vector<float> part(2);
  values.read_masters(trained, 1, part);
  EXPECT_THAT(part, ElementsAre(kMasters[1], kMasters[2]));
  values.read_masters(frozen, 0, part);
  EXPECT_THAT(part, ElementsAre(1.0f, -1.0f));

  EXPECT_FALSE(values.has(StateKind::kM, late));
  values.read_moments(StateKind::kM, trained, 0, numbers);
  EXPECT_THAT(numbers, ElementsAre(1.0f, 2.0f, 0.0f));
  values.read_moments(StateKind::kV, trained, 0, numbers);
  EXPECT_THAT(numbers, ElementsAre(1e-30f, 2.0f, 3.0f));
  EXPECT_THROW(values.read_moments(StateKind::kM, late, 0, part), UsageError);
  EXPECT_THROW(values.read_masters(trained, 2, part), UsageError);
}

TEST_F(CheckpointValuesTest, WithoutMomentsLookAtNoFileOfThem) {
  (void)open();
  directory_.write("m.safetensors",
                   std::string(std::filesystem::file_size(directory_ / "m.safetensors"), 'x'));
  EXPECT_FALSE(CheckpointValues(directory_.path(), false).has(StateKind::kM, {.name = "trained"}));
  EXPECT_THAT(message_of<DataError>([&] { (void)CheckpointValues(directory_.path(), true); }),
              HasSubstr("m.safetensors"));
}

TEST_F(CheckpointValuesTest, OfFilesThatContradictEachOtherAreRefusedByTensor) {
  const auto whole = files_;
  files_["master"].front().dtype = DType::kF16;
  EXPECT_THAT(refusal(), AllOf(HasSubstr("master.safetensors"), HasSubstr("'trained' is F16")));
  files_ = whole;
  files_["master"].erase(files_["master"].begin());
  EXPECT_THAT(refusal(), AllOf(HasSubstr("'trained'"), HasSubstr("no master")));
  files_ = whole;
  files_["v"].front() = tensor("trained", DType::kF32, std::vector<float>{1, 2});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("v.safetensors"), HasSubstr("F32 [2]")));
  files_ = whole;
  files_["m"].front() = tensor("trained", DType::kU8, std::vector<std::uint8_t>(128));
  EXPECT_THAT(refusal(), AllOf(HasSubstr("m.safetensors"), HasSubstr("U8 [128]")));
  files_ = whole;
  files_["weight"].front() = tensor("trained", DType::kI64, std::vector<std::int64_t>(3));
  EXPECT_THAT(refusal(), AllOf(HasSubstr("weight.safetensors"), HasSubstr("no format of weights")));
  files_.erase("weight");
  EXPECT_THAT(refusal(), HasSubstr("names no weight.safetensors"));
}

TEST_F(CheckpointValuesTest, OfAManifestThatLacksOrInventsSomethingAreRefused) {
  sections_[0].second = R"({"optimizer": "adamw", "precision": "fp8"})";
  EXPECT_THAT(refusal(), AllOf(HasSubstr("states.precision"), HasSubstr("no format")));
  sections_.erase(sections_.begin());
  EXPECT_THAT(refusal(), HasSubstr("states"));
}

}  // namespace
}  // namespace strata
