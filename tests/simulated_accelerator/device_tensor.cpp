#include "simulated_accelerator/device_tensor.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>

#include "simulated_accelerator/device_allocator.h"

namespace strata::simulated {
namespace {

DeviceSpan span_of(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) return {};
  const std::size_t bytes =
      at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size());
  const DeviceSpan span(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()), bytes);
  (void)live_device(tensor.device().index())
      .host_view(span);  // refuses what is not inside of one live memory
  return span;
}

}  // namespace

support::SimDevice::Ranges addresses_of(const at::Tensor& tensor) {
  const DeviceSpan span = span_of(tensor);
  if (span.empty()) return {};
  return {support::range_of(span)};
}

at::Tensor touchable(const at::Tensor& tensor) {
  const auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  const DeviceSpan span = span_of(tensor);
  if (span.empty()) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  return at::from_blob(live_device(tensor.device().index()).touchable(span).data(), tensor.sizes(),
                       tensor.strides(), options);
}

at::Tensor empty_on_device(const at::Tensor& like) {
  return at::detail::empty_strided_generic(like.sizes(), like.strides(), &device_allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           like.scalar_type());
}

}  // namespace strata::simulated
