#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace strata {

/// A source of initial values that can fill any block of a parameter: an engine asks it on all
/// cores at once, while blocks before are on their way to their home, and no parameter is in memory
/// as a whole.
///
///     RangedInitializer zeros(1 << 16, [](const std::string&, std::uint64_t, auto values) {
///       std::ranges::fill(values, 0.0f);
///     });
///     auto layer = engine.shard(module, {.name = "layer", .initializer = zeros});
///
/// It serves wherever a ParameterInitializer does. Called through another function it fills whole
/// parameters, as that does.
class RangedInitializer {
 public:
  /// Fills the elements of the parameter `name` from `begin` on, in the order in which they lie.
  /// `begin` is a multiple of `block_elements`; as many are wanted, or those up to the parameter's
  /// end. Called on any thread, on several at once, for a block more than once, and for those alone
  /// that the rank keeps. An element that is left as it is is refused, as in ShardOptions.
  using Fill =
      std::function<void(const std::string& name, std::uint64_t begin, std::span<float> values)>;

  /// `block_elements`: 2^16 to 2^18 keep blocks in a core's cache. Throws UsageError for 0.
  RangedInitializer(std::uint64_t block_elements, Fill fill);

  /// Fills a whole parameter, on all cores. Throws UsageError for a value that is not contiguous
  /// fp32 on the CPU, and what Fill throws.
  void operator()(const std::string& name, torch::Tensor& value) const;

  [[nodiscard]] std::uint64_t block_elements() const noexcept { return block_elements_; }
  [[nodiscard]] const Fill& fill() const noexcept { return fill_; }

 private:
  std::uint64_t block_elements_;
  Fill fill_;
};

}  // namespace strata
