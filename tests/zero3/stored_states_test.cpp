#include "zero3/checkpoint/stored_states.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "zero3/shard_map.h"

/// \file
/// What lies where in the files of a checkpoint, and that the parts of all ranks are the whole.

namespace strata::zero3::stored_states_test {
namespace {

using testing::ElementsAre;

/// Two units: parameters of odd sizes, a frozen one, one in fp32, one without elements.
std::vector<UnitLayout> units() {
  UnitLayout first, second;
  first.name = "a";
  second.name = "b";
  first.add("weight", {10, 13}, true);
  first.add("frozen", {70}, false);
  first.add("bias", {3}, true);
  second.add("norm", {65}, true, /*keep_fp32=*/true);
  second.add("empty", {0, 4}, true);
  second.add("weight", {129}, true);
  return {first, second};
}

StoredFormat bf16(MomentFormat moments = MomentFormat::kFp32) {
  StateFormat format(Precision::kBf16);
  format.moments = moments;
  return {.format = format};
}

std::map<std::string, std::vector<std::string>> described(const StoredFormat& format) {
  std::map<std::string, std::vector<std::string>> files;
  for (const StoredFile& file : stored_files(units(), format)) {
    for (const formats::TensorInfo& tensor : file.layout.tensors) {
      files[file.name].push_back(tensor.name + " " + tensor.description());
    }
  }
  return files;
}

TEST(StoredStates, AreTensorsUnderFullNamesInTheFormatInWhichTheyRest) {
  auto files = described(bf16());
  EXPECT_EQ(files.size(), 4u);
  EXPECT_THAT(files["weight.safetensors"],
              ElementsAre("a.weight BF16 [10, 13]", "a.frozen BF16 [70]", "a.bias BF16 [3]",
                          "b.norm F32 [65]", "b.empty BF16 [0, 4]", "b.weight BF16 [129]"));
  EXPECT_THAT(files["master.safetensors"], ElementsAre("a.weight I16 [10, 13]", "a.bias I16 [3]",
                                                       "b.empty I16 [0, 4]", "b.weight I16 [129]"));
  EXPECT_EQ(files["m.safetensors"], files["v.safetensors"]);
  EXPECT_THAT(files["m.safetensors"],
              ElementsAre("a.weight F32 [10, 13]", "a.bias F32 [3]", "b.norm F32 [65]",
                          "b.empty F32 [0, 4]", "b.weight F32 [129]"));
}

TEST(StoredStates, OfMomentsInBlocksAreWholeBlocks) {
  EXPECT_THAT(described(bf16(MomentFormat::kInt8))["v.safetensors"],
              ElementsAre("a.weight U8 [3, 64]", "a.bias U8 [1, 64]", "b.norm U8 [2, 64]",
                          "b.empty U8 [0, 64]", "b.weight U8 [3, 64]"));
}

TEST(StoredStates, HaveGradientsWhereThereAreSome) {
  StoredFormat format = bf16();
  format.has_gradient = [](std::size_t unit, std::size_t parameter) {
    return unit == 1 && parameter != 1;
  };
  EXPECT_THAT(described(format)["gradient.safetensors"],
              ElementsAre("b.norm F32 [65]", "b.weight BF16 [129]"));
  format.gradients_in_fp32 = true;
  EXPECT_THAT(described(format)["gradient.safetensors"],
              ElementsAre("b.norm F32 [65]", "b.weight F32 [129]"));
}

TEST(StoredStates, OfAnOptimizerWithoutMomentsHaveNoFilesForThem) {
  StoredFormat format = {.format = StateFormat(Precision::kFp32)};
  format.format.has_m = format.format.has_v = false;
  EXPECT_EQ(described(format).size(), 1u);
}

/// The number of times that each byte behind the file's head is written, when all ranks write what
/// they have in pieces of `piece` elements.
std::vector<int> times_written(const StoredFile& file, int world_size, std::uint64_t piece) {
  const std::vector<UnitLayout> layouts = units();
  std::vector<int> times(file.layout.bytes);
  for (int rank = 0; rank < world_size; ++rank) {
    for (const StoredHome& home : homes_of(file)) {
      const UnitLayout& unit = layouts[home.unit];
      const std::uint64_t counts[] = {unit.trainable_count, unit.frozen_count,
                                      unit.fp32_trainable_count, unit.fp32_frozen_count};
      const ElementRange shard = ShardMap(counts[home.vector], world_size).shard(rank);
      const std::uint64_t bytes = shard.count() * home.element_bytes;
      const std::uint64_t step = piece * home.element_bytes;
      for (std::uint64_t offset = 0; offset < bytes; offset += step) {
        for (const std::size_t index : home.tensors) {
          const StoredTensor& tensor = file.tensors[index];
          const ElementRange part =
              part_in_home(tensor, shard, offset, std::min(step, bytes - offset));
          const std::uint64_t place =
              tensor.offset + (part.begin - tensor.range.begin) * tensor.element_bytes;
          for (std::uint64_t i = 0; i < part.count() * tensor.element_bytes; ++i) {
            ++times.at(place + i);
          }
        }
      }
    }
  }
  return times;
}

TEST(StoredStates, AreWrittenOnceByAllRanksTogetherInPiecesOfAnySize) {
  for (const MomentFormat moments : {MomentFormat::kFp32, MomentFormat::kInt8}) {
    StoredFormat format = bf16(moments);
    format.has_gradient = [](std::size_t, std::size_t parameter) { return parameter != 1; };
    for (const StoredFile& file : stored_files(units(), format)) {
      std::vector<int> once(file.layout.bytes, 1);
      std::fill_n(once.begin(), file.layout.head.size(), 0);
      for (const int ranks : {1, 2, 3, 5, 8}) {
        for (const std::uint64_t piece : {64, 128, 1000}) {
          EXPECT_EQ(times_written(file, ranks, piece), once) << file.name << " " << ranks;
        }
      }
    }
  }
}

}  // namespace
}  // namespace strata::zero3::stored_states_test
