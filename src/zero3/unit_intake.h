#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace strata::zero3 {

/// A tensor of a module under its name there.
struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
};

/// The memory of all parameters that were ever taken, to find two parameters that are views of one
/// tensor: an engine holds each in a place of its own, and they would drift apart.
class TakenMemory {
 public:
  /// Throws UsageError, naming both, when `parameter` overlaps itself or one that was added.
  void check(const std::string& full_name, const torch::Tensor& parameter) const;
  void add(const std::string& full_name, const torch::Tensor& parameter);
  void add(TakenMemory others);

 private:
  struct Range {
    std::uint64_t begin, end;  // bytes
    std::string name;
  };
  struct Taken {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;  // keeps the address from being used again
    std::vector<Range> ranges;
  };
  std::unordered_map<const c10::StorageImpl*, Taken> taken_;
};

/// The parts of a module that a unit takes.
struct UnitIntake {
  std::vector<NamedTensor> parameters;  ///< each once, in registration order
  std::vector<NamedTensor> buffers;     ///< each once, in registration order
  TakenMemory memory;                   ///< memory of the parameters
};

/// Lists what the unit takes. Throws UsageError, naming the tensor
/// and what to do: for a module without elements to train or read, a parameter whose type fp32
/// cannot hold, that is sparse, or on a device other than `device`, the CPU and meta, what
/// TakenMemory::check refuses, and a buffer on the meta device.
[[nodiscard]] UnitIntake take_in(const std::string& unit, const torch::nn::Module& module,
                                 const TakenMemory& taken, c10::Device device);

}  // namespace strata::zero3
