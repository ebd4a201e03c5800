#include "zero3/body_surroundings.h"

#include <c10/core/impl/COW.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

namespace strata::zero3 {

namespace {

constexpr std::array<at::DeviceType, 2> kAutocastDevices = {at::kCPU, at::kCUDA};

using AutocastState = std::array<std::pair<bool, at::ScalarType>, 2>;

AutocastState autocast_state() {
  AutocastState state;
  for (std::size_t i = 0; i < kAutocastDevices.size(); ++i) {
    state[i] = {at::autocast::is_autocast_enabled(kAutocastDevices[i]),
                at::autocast::get_autocast_dtype(kAutocastDevices[i])};
  }
  return state;
}

void set_autocast_state(const AutocastState& state) {
  for (std::size_t i = 0; i < kAutocastDevices.size(); ++i) {
    at::autocast::set_autocast_enabled(kAutocastDevices[i], state[i].first);
    at::autocast::set_autocast_dtype(kAutocastDevices[i], state[i].second);
  }
}

torch::Tensor state_of(at::Generator& generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator& generator, const torch::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// Another storage with the same bytes, which are copied when either of the two is written to; at
/// once where LibTorch cannot do that.
c10::Storage clone_lazily(const c10::Storage& storage) {
  if (auto lazy = c10::impl::cow::lazy_clone_storage(*storage.unsafeGetStorageImpl())) {
    return c10::Storage(std::move(lazy));
  }
  const torch::Tensor copy =
      torch::empty({static_cast<std::int64_t>(storage.nbytes())}, torch::kUInt8);
  std::memcpy(copy.mutable_data_ptr(), storage.data(), storage.nbytes());
  return copy.storage();
}

void set_storage(const torch::Tensor& tensor, const c10::Storage& storage) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
}

}  // namespace

BodySurroundings::BodySurroundings(const Unit& unit) : autocast_(autocast_state()) {
  std::vector<at::Generator> generators = unit.generators();
  generators.push_back(at::detail::getDefaultCPUGenerator());
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
  set_autocast_state(autocast_);
  for (const auto& [generator, state] : generators_) {
    at::Generator handle = generator;
    set_state(handle, state);
  }
  for (const Buffer& buffer : buffers_) {
    const c10::Storage again = clone_lazily(buffer.earlier);  // it may be wanted once more
    for (const torch::Tensor& tensor : buffer.tensors) set_storage(tensor, again);
  }
}

BodySurroundings::Restored::Restored(const BodySurroundings& earlier)
    : autocast_now_(autocast_state()) {
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
  set_autocast_state(autocast_now_);
}

}  // namespace strata::zero3
