#include "simulated_accelerator/device_generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include <vector>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

DeviceGenerator::DeviceGenerator(at::Generator source, c10::DeviceIndex index)
    : GeneratorImpl(c10::Device(kDeviceType, index),
                    c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
      source_(std::move(source)) {}

void DeviceGenerator::set_state(const c10::TensorImpl& state) {
  source_.unsafeGetGeneratorImpl()->set_state(state);
}

c10::intrusive_ptr<c10::TensorImpl> DeviceGenerator::get_state() const {
  return source_.unsafeGetGeneratorImpl()->get_state();
}

DeviceGenerator* DeviceGenerator::clone_impl() const {
  return new DeviceGenerator(source_.clone(), device().index());
}

const at::Generator& default_generator(c10::DeviceIndex index) {
  static const auto* const generators = [] {
    auto* const all = new std::vector<at::Generator>;
    for (c10::DeviceIndex each = 0; each < kDevicesMax; ++each) {
      all->push_back(new_generator(each));
    }
    return all;
  }();
  return generators->at(static_cast<std::size_t>(index));
}

at::Generator new_generator(c10::DeviceIndex index) {
  return at::make_generator<DeviceGenerator>(at::detail::createCPUGenerator(), index);
}

}  // namespace strata::simulated
