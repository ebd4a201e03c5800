#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "strata/formats/crc32.h"
#include "zero3/unit_registry.h"

namespace strata::zero3 {

/// A rank's own part of a checkpoint, in a safetensors file of its own: the states of random
/// generators (LibTorch's of the CPU, "random/cpu", and of the device; those that units name), and
/// the buffers of units ("buffer/h.0.bias").
class RankFile {
 public:
  /// The rank's own things are those of `units` and of `device`. Both outlive it.
  RankFile(const UnitRegistry& units, c10::Device device) : units_(units), device_(device) {}

  /// "rank_00003.safetensors".
  [[nodiscard]] static std::string name_of(int rank);

  /// Writes them as a new file and makes it durable; returns its checksum. Throws IoError;
  /// UsageError, naming the buffer, for a type that safetensors does not have.
  [[nodiscard]] formats::Crc32 write(const std::filesystem::path& path) const;

  /// What was read of a file, to be put in place.
  struct Values {
    std::vector<std::pair<at::Generator, torch::Tensor>> generators;
    std::vector<std::pair<torch::Tensor, torch::Tensor>> buffers;  ///< a buffer and its value
  };
  /// Reads a file that was written with the same units. Generators that it does not have stay out;
  /// without `generators` all do. Throws IoError; DataError, naming the file and the tensor, where
  /// a buffer is missing or anything has another shape or type.
  [[nodiscard]] Values read(const std::filesystem::path& path, bool generators) const;
  /// Puts them in place.
  static void apply(const Values& values);

 private:
  /// A tensor in the file, and what it belongs to.
  template <class Owner>
  struct Named {
    std::string name;
    Owner owner;
  };
  [[nodiscard]] std::vector<Named<at::Generator>> generators() const;
  [[nodiscard]] std::vector<Named<torch::Tensor>> buffers() const;

  const UnitRegistry& units_;
  c10::Device device_;
};

}  // namespace strata::zero3
