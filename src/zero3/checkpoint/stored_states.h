#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/formats/crc32.h"
#include "strata/formats/safetensors.h"
#include "strata/zero3/unit_layout.h"
#include "zero3/ranks/ranks.h"
#include "zero3/shard_map.h"

/// \file
/// The files in which a checkpoint has the states of units: one for each kind of state, a tensor
/// for each parameter that has it, under its full name, in the format in which it rests. No
/// LibTorch.
///
///     file                   tensors                    dtype
///     weight.safetensors     every parameter            F32, BF16, F16
///     master.safetensors     what the weight lacks      I16 or I8 (low bits: bf16), F32 (fp16)
///     m.safetensors          first moments              F32, BF16, or U8 [blocks, 64]
///     v.safetensors          second moments             the same
///     gradient.safetensors   between the micro-batches  the weight's, or F32
///                            of a step alone
///
/// Where a tensor lies does not depend on the number of ranks: each writes its own bytes of every
/// file, and a load by another number cuts them anew.

namespace strata::zero3 {

/// The flat vectors of a unit.
inline constexpr std::size_t kVectorsOfUnit = 4;

/// The place of a parameter's flat vector in Unit::vectors().
[[nodiscard]] constexpr std::size_t vector_index(const ParameterLayout& parameter) {
  return (parameter.fp32 ? 2 : 0) + (parameter.trainable ? 0 : 1);
}

/// One tensor of a file.
struct StoredTensor {
  std::size_t unit = 0, parameter = 0;  ///< its place in the units' layouts
  std::size_t vector = 0;               ///< of the unit
  ElementRange range;                   ///< elements of that vector; whole blocks of int8 moments
  std::uint64_t element_bytes = 0;
  std::uint64_t offset = 0;  ///< of its first byte in the file
};

struct StoredFile {
  StateKind kind = StateKind::kWeight;
  std::string name;
  formats::SafetensorsLayout layout = {};
  std::vector<StoredTensor> tensors = {};  ///< in the layout's order
};

/// How the states of units rest.
struct StoredFormat {
  StateFormat format;              ///< the run's
  bool gradients_in_fp32 = false;  ///< sums of several micro-batches
  /// Whether a parameter has a gradient in the step under way; empty: none has.
  std::function<bool(std::size_t unit, std::size_t parameter)> has_gradient = {};
};

/// Every file that has a tensor, in the order of kinds.
[[nodiscard]] std::vector<StoredFile> stored_files(const std::vector<UnitLayout>& units,
                                                   const StoredFormat& format);

/// Bytes of all files.
[[nodiscard]] std::uint64_t stored_bytes(const std::vector<StoredFile>& files);

/// The tensors of one kind that lie in one flat vector of a unit: what a home holds.
struct StoredHome {
  std::size_t unit = 0, vector = 0;
  std::uint64_t element_bytes = 0;
  std::vector<std::size_t> tensors;  ///< indices into StoredFile::tensors, in the vector's order
};

/// The homes of a file, in the order of units.
[[nodiscard]] std::vector<StoredHome> homes_of(const StoredFile& file);

/// The checksums of all bytes of a file's tensors, in the order of StoredFile::tensors. `own` has
/// those of this rank's parts, which lie in each tensor in rank order. A collective.
[[nodiscard]] std::vector<formats::Crc32> sums_of_tensors(Ranks& ranks,
                                                          std::span<const formats::Crc32> own);

/// The elements of a tensor that lie in bytes [offset, offset + bytes) of a shard's home.
[[nodiscard]] ElementRange part_in_home(const StoredTensor& tensor, const ElementRange& shard,
                                        std::uint64_t offset, std::uint64_t bytes);

/// The elements of `part` that are this rank's to write and to sum up, where `own` is what would be
/// its shard: where all ranks keep the whole vector (stage 0), each has that much of it.
[[nodiscard]] ElementRange own_part(const ElementRange& part, const ElementRange& own);

}  // namespace strata::zero3
