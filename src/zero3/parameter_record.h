#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "zero3/unit.h"

namespace strata::zero3 {

/// The parameters of a unit in use as they were at one time, to find all that a visitor writes:
/// version counters miss data(), accessors and pointers, hashes do not.
class ParameterRecord {
 public:
  explicit ParameterRecord(const Unit& unit);

  /// The changed parameters, by index.
  [[nodiscard]] std::vector<std::size_t> changed() const;
  /// Gives a parameter whose weights rest on the device, where they are read, its bytes back. Does
  /// nothing where they rest elsewhere: there they still are.
  void restore(std::size_t parameter) const;

 private:
  const Unit* unit_;  // a pointer, so that a record can be replaced
  std::vector<std::uint32_t> versions_;
  std::vector<std::size_t> hashes_;
  std::vector<torch::Tensor> copies_;  // copies of weights that rest on the device
};

}  // namespace strata::zero3
