#include "zero3/checkpoint/stored_states.h"

#include <algorithm>
#include <array>
#include <utility>

#include "strata/base/units.h"

namespace strata::zero3 {
namespace {

using formats::DType;

constexpr std::array<StateKind, kStateKindCount> kKinds = {
    StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV, StateKind::kGradient};

/// One kind of state of one parameter.
struct State {
  DType dtype;
  std::uint64_t element_bytes;  // 0: it has none
  bool in_blocks = false;
};

State state_of(const StoredFormat& stored, StateKind kind, const ParameterLayout& parameter) {
  const StateFormat format = parameter.fp32 ? kept_in_fp32(stored.format) : stored.format;
  const bool wide_gradient = stored.gradients_in_fp32 || format.precision == Precision::kFp32;
  const bool is_moment = kind == StateKind::kM || kind == StateKind::kV;
  return {formats::dtype_of(format, kind, wide_gradient), state_bytes(format, kind, wide_gradient),
          is_moment && format.moments == MomentFormat::kInt8};
}

/// Whether the parameter has a state of this kind that is kept.
bool has_state(const StoredFormat& stored, StateKind kind, std::size_t unit, std::size_t parameter,
               const ParameterLayout& layout) {
  if (kind == StateKind::kWeight) return true;
  if (!layout.trainable) return false;
  if (kind != StateKind::kGradient) return true;
  return stored.has_gradient && stored.has_gradient(unit, parameter);
}

}  // namespace

std::vector<StoredFile> stored_files(const std::vector<UnitLayout>& units,
                                     const StoredFormat& format) {
  std::vector<StoredFile> files;
  for (const StateKind kind : kKinds) {
    StoredFile file{.kind = kind, .name = std::string(name_of(kind)) + ".safetensors"};
    std::vector<formats::TensorInfo> tensors;
    for (std::size_t u = 0; u < units.size(); ++u) {
      for (std::size_t p = 0; p < units[u].parameters.size(); ++p) {
        const ParameterLayout& parameter = units[u].parameters[p];
        const State state = state_of(format, kind, parameter);
        if (state.element_bytes == 0 || !has_state(format, kind, u, p, parameter)) continue;
        std::uint64_t count = parameter.count;
        std::vector<std::int64_t> shape = parameter.shape;
        if (state.in_blocks) {
          count = round_up(count, kMomentBlockElements);
          shape = {static_cast<std::int64_t>(count / kMomentBlockElements),
                   static_cast<std::int64_t>(kMomentBlockElements)};
        }
        tensors.push_back({.name = units[u].full_name(parameter),
                           .dtype = state.dtype,
                           .shape = std::move(shape)});
        file.tensors.push_back({.unit = u,
                                .parameter = p,
                                .vector = vector_index(parameter),
                                .range = {parameter.offset, parameter.offset + count},
                                .element_bytes = state.element_bytes});
      }
    }
    if (tensors.empty()) continue;
    file.layout = formats::lay_out_safetensors(std::move(tensors), {{"format", "pt"}}, file.name);
    for (std::size_t i = 0; i < file.tensors.size(); ++i) {
      file.tensors[i].offset = file.layout.tensors[i].offset;
    }
    files.push_back(std::move(file));
  }
  return files;
}

std::uint64_t stored_bytes(const std::vector<StoredFile>& files) {
  std::uint64_t bytes = 0;
  for (const StoredFile& file : files) bytes += file.layout.bytes;
  return bytes;
}

std::vector<StoredHome> homes_of(const StoredFile& file) {
  std::vector<StoredHome> homes;
  for (std::size_t i = 0; i < file.tensors.size();) {
    const std::size_t unit = file.tensors[i].unit;
    std::array<StoredHome, kVectorsOfUnit> of_unit;
    for (; i < file.tensors.size() && file.tensors[i].unit == unit; ++i) {
      const StoredTensor& tensor = file.tensors[i];
      StoredHome& home = of_unit[tensor.vector];
      home.unit = unit;
      home.vector = tensor.vector;
      home.element_bytes = tensor.element_bytes;
      home.tensors.push_back(i);
    }
    for (StoredHome& home : of_unit) {
      if (!home.tensors.empty()) homes.push_back(std::move(home));
    }
  }
  return homes;
}

std::vector<formats::Crc32> sums_of_tensors(Ranks& ranks, std::span<const formats::Crc32> own) {
  const auto count = static_cast<std::size_t>(ranks.size());
  std::vector<formats::Crc32> parts(count * own.size());
  std::ranges::copy(own, parts.begin() + static_cast<std::ptrdiff_t>(own.size()) * ranks.rank());
  ranks.begin_all_gather(std::as_writable_bytes(std::span(parts))).wait();
  std::vector<formats::Crc32> sums(own.size());
  for (std::size_t tensor = 0; tensor < own.size(); ++tensor) {
    for (std::size_t rank = 0; rank < count; ++rank) {
      sums[tensor].append(parts[rank * own.size() + tensor]);
    }
  }
  return sums;
}

ElementRange part_in_home(const StoredTensor& tensor, const ElementRange& shard,
                          std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t first = shard.begin + offset / tensor.element_bytes;
  const std::uint64_t last = first + bytes / tensor.element_bytes;
  const std::uint64_t begin = std::clamp(tensor.range.begin, first, last);
  return {begin, std::clamp(tensor.range.end, begin, last)};
}

ElementRange own_part(const ElementRange& part, const ElementRange& own) {
  const std::uint64_t begin = std::clamp(own.begin, part.begin, part.end);
  return {begin, std::clamp(own.end, begin, part.end)};
}

}  // namespace strata::zero3
