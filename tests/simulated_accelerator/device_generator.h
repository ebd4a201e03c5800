#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/GeneratorImpl.h>

namespace strata::simulated {

/// Random numbers of the device: those that the CPU draws from the same seed, so that a module with
/// dropout has the same bits on both. Its state has the format of a CPU generator's.
class DeviceGenerator final : public c10::GeneratorImpl {
 public:
  /// Draws from `source`, a generator of the CPU, for the device of this index.
  DeviceGenerator(at::Generator source, c10::DeviceIndex index);

  [[nodiscard]] const at::Generator& source() const noexcept { return source_; }

  void set_current_seed(std::uint64_t seed) override { source_.set_current_seed(seed); }
  [[nodiscard]] std::uint64_t current_seed() const override { return source_.current_seed(); }
  std::uint64_t seed() override { return source_.seed(); }
  void set_offset(std::uint64_t offset) override { source_.set_offset(offset); }
  [[nodiscard]] std::uint64_t get_offset() const override { return source_.get_offset(); }
  void set_state(const c10::TensorImpl& state) override;
  [[nodiscard]] c10::intrusive_ptr<c10::TensorImpl> get_state() const override;

 private:
  [[nodiscard]] DeviceGenerator* clone_impl() const override;

  at::Generator source_;
};

/// A device's default generator. torch::manual_seed seeds those of all devices.
[[nodiscard]] const at::Generator& default_generator(c10::DeviceIndex index);
[[nodiscard]] at::Generator new_generator(c10::DeviceIndex index);

}  // namespace strata::simulated
