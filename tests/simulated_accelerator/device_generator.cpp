#include "simulated_accelerator/device_generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

DeviceGenerator::DeviceGenerator(at::Generator source)
    : GeneratorImpl(kTorchDevice, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
      source_(std::move(source)) {}

void DeviceGenerator::set_state(const c10::TensorImpl& state) {
  source_.unsafeGetGeneratorImpl()->set_state(state);
}

c10::intrusive_ptr<c10::TensorImpl> DeviceGenerator::get_state() const {
  return source_.unsafeGetGeneratorImpl()->get_state();
}

DeviceGenerator* DeviceGenerator::clone_impl() const {
  return new DeviceGenerator(source_.clone());
}

const at::Generator& default_generator() {
  static const auto* const generator = new at::Generator(new_generator());
  return *generator;
}

at::Generator new_generator() {
  return at::make_generator<DeviceGenerator>(at::detail::createCPUGenerator());
}

}  // namespace strata::simulated
