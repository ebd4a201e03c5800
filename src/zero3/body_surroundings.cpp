#include "zero3/body_surroundings.h"

#include <c10/core/impl/COW.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace strata::zero3 {

namespace {

using Autocast = BodySurroundings::Autocast;

Autocast autocast_of(at::DeviceType device) {
  return {device, at::autocast::is_autocast_enabled(device),
          at::autocast::get_autocast_dtype(device)};
}

void set_autocast(const std::vector<Autocast>& states) {
  for (const Autocast& state : states) {
    at::autocast::set_autocast_enabled(state.device, state.enabled);
    at::autocast::set_autocast_dtype(state.device, state.type);
  }
}

/// The host, where bodies may compute too, and the unit's device.
std::vector<c10::Device> devices_of(const Unit& unit) {
  std::vector<c10::Device> devices = {c10::Device(c10::DeviceType::CPU)};
  if (unit.device() != devices.front()) devices.push_back(unit.device());
  return devices;
}

torch::Tensor state_of(at::Generator& generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator& generator, const torch::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// Another storage with the same bytes. In host memory they are copied when either of the two is
/// written to; on another device, or where LibTorch cannot do that, at once.
c10::Storage clone_lazily(const c10::Storage& storage) {
  if (storage.device().is_cpu()) {
    if (auto lazy = c10::impl::cow::lazy_clone_storage(*storage.unsafeGetStorageImpl())) {
      return c10::Storage(std::move(lazy));
    }
  }
  const auto options = torch::TensorOptions(torch::kUInt8).device(storage.device());
  const auto bytes = static_cast<std::int64_t>(storage.nbytes());
  const torch::Tensor source = torch::empty({0}, options);
  source.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
  source.unsafeGetTensorImpl()->set_sizes_contiguous({bytes});
  return torch::empty({bytes}, options).copy_(source).storage();
}

void set_storage(const torch::Tensor& tensor, const c10::Storage& storage) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
}

}  // namespace

BodySurroundings::BodySurroundings(const Unit& unit) {
  std::vector<at::Generator> generators = unit.rules().generators;
  for (const c10::Device device : devices_of(unit)) {
    autocast_.push_back(autocast_of(device.type()));
    generators.push_back(at::globalContext().defaultGenerator(device));
  }
  for (at::Generator& generator : generators) {
    torch::Tensor state = state_of(generator);
    generators_.emplace_back(generator, std::move(state));
  }
  const torch::NoGradGuard no_grad;
  for (const NamedTensor& buffer : unit.buffers()) {
    if (buffer.tensor.numel() == 0 || !buffer.tensor.has_storage()) continue;  // a sparse one
    const c10::Storage& storage = buffer.tensor.storage();
    const auto same = [&](const Buffer& other) {
      return other.tensors.front().storage().unsafeGetStorageImpl() ==
             storage.unsafeGetStorageImpl();
    };
    const auto known = std::find_if(buffers_.begin(), buffers_.end(), same);
    if (known == buffers_.end()) {
      buffers_.push_back({{buffer.tensor}, clone_lazily(storage)});
    } else {
      known->tensors.push_back(buffer.tensor);
    }
  }
}

void BodySurroundings::keep_what_changed() {
  // Version counters do not tell: batch norm's running statistics are written without a new one.
  std::erase_if(buffers_, [](const Buffer& buffer) {
    return buffer.tensors.front().storage().data() == buffer.earlier.data();
  });
}

void BodySurroundings::restore() const {
  set_autocast(autocast_);
  for (const auto& [generator, state] : generators_) {
    at::Generator handle = generator;
    set_state(handle, state);
  }
  for (const Buffer& buffer : buffers_) {
    const c10::Storage again = clone_lazily(buffer.earlier);  // it may be wanted once more
    for (const torch::Tensor& tensor : buffer.tensors) set_storage(tensor, again);
  }
}

BodySurroundings::Restored::Restored(const BodySurroundings& earlier) {
  for (const Autocast& state : earlier.autocast_) {
    autocast_now_.push_back(autocast_of(state.device));
  }
  for (const auto& [generator, state] : earlier.generators_) {
    at::Generator handle = generator;
    generators_now_.emplace_back(handle, state_of(handle));
  }
  for (const Buffer& buffer : earlier.buffers_) {
    for (const torch::Tensor& tensor : buffer.tensors) {
      buffers_now_.emplace_back(tensor, tensor.storage());
    }
  }
  earlier.restore();
}

BodySurroundings::Restored::~Restored() {
  for (const auto& [buffer, storage] : buffers_now_) {
    set_storage(buffer, storage);
  }
  for (auto& [generator, state] : generators_now_) set_state(generator, state);
  set_autocast(autocast_now_);
}

}  // namespace strata::zero3
