#include "zero3/activations.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"

namespace strata::zero3 {

namespace {

constexpr std::size_t kLeastBytes = 4096;  // less is not worth a copy
// Tensors whose memory is kept from others until the device has read them. Of more than these the
// device's computation waits for the oldest.
constexpr std::size_t kLeavingMax = 2;

tiering::DeviceSpan span_of(const void* data, const torch::Tensor& tensor) {
  return {reinterpret_cast<std::uintptr_t>(data), tensor.nbytes()};
}

std::uint32_t version_of(const torch::Tensor& tensor) {
  return static_cast<std::uint32_t>(tensor._version());
}

}  // namespace

void take_values(const torch::Tensor& tensor) {
  c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  const c10::Device device = tensor.device();
  impl.set_allow_tensor_metadata_change(true);
  impl.set_storage_keep_dtype(c10::Storage(c10::Storage::use_byte_size_t(), 0,
                                           c10::DataPtr(nullptr, device), nullptr,
                                           /*resizable=*/false));
}

Activations::~Activations() {
  try {
    let_go(0);
  } catch (const Error&) {
    // The device failed and says so to the next that asks.
  }
}

bool Activations::is_wanted(const torch::Tensor& tensor) const {
  return tensor.defined() && tensor.requires_grad() && tensor.layout() == torch::kStrided &&
         tensor.device() == torch_device_ && tensor.nbytes() >= kLeastBytes &&
         tensor.is_non_overlapping_and_dense();
}

/// The values of this tensor, if they are in the store. A module may be given what another one was.
Activations::Away Activations::find(const torch::Tensor& tensor) {
  std::erase_if(known_,
                [](const Known& known) { return known.storage.expired() || known.away.expired(); });
  for (const Known& known : known_) {
    if (known.storage._unsafe_get_target() != tensor.storage().unsafeGetStorageImpl()) continue;
    if (known.offset != tensor.storage_offset() || known.version != version_of(tensor)) continue;
    Away away = known.away.lock();
    if (away && away->bytes() == tensor.nbytes()) return away;
  }
  return nullptr;
}

/// Lets go of the memory that has been read, and of all but `kept` of what has not: its next user,
/// on the compute stream, then comes behind the reading.
void Activations::let_go(std::size_t kept) {
  while (!leaving_.empty()) {
    if (!leaving_.front().left.is_done()) {
      if (leaving_.size() <= kept) return;
      device_.wait(tiering::StreamRole::kCompute, leaving_.front().left);
    }
    leaving_.pop_front();
  }
}

Activations::Away Activations::put(const torch::Tensor& tensor) {
  if (!is_wanted(tensor)) return nullptr;
  if (Away away = find(tensor)) return away;
  auto ticket = store_.put(span_of(tensor.const_data_ptr(), tensor));
  if (!ticket) return nullptr;
  auto away = std::make_shared<const tiering::ActivationTicket>(*std::move(ticket));
  const c10::Storage& storage = tensor.storage();
  if (!device_.properties().memory_is_host) {
    leaving_.push_back({storage, away->left()});
    let_go(kLeavingMax);
  }
  known_.push_back(
      {storage.getWeakStorageImpl(), tensor.storage_offset(), version_of(tensor), away});
  return away;
}

torch::Tensor Activations::bring(const Away& away, const torch::Tensor& form) {
  let_go(kLeavingMax);
  torch::Tensor tensor = torch::empty_strided(form.sizes(), form.strides(), form.options());
  store_.bring(*away, span_of(tensor.mutable_data_ptr(), tensor));
  return tensor.set_requires_grad(true);
}

}  // namespace strata::zero3
