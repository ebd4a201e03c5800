#include "simulated_accelerator/layout_kernels.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>

#include <algorithm>

#include "simulated_accelerator/device_allocator.h"

namespace strata::simulated {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type,
                 std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  const CurrentDevice current(device.value_or(at::Device(kDeviceType)));
  return at::detail::empty_generic(sizes, &device_allocator(), kKeys, c10::dtype_or_default(type),
                                   format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> type, std::optional<at::Layout>,
                         std::optional<at::Device> device, std::optional<bool>) {
  const CurrentDevice current(device.value_or(at::Device(kDeviceType)));
  return at::detail::empty_strided_generic(sizes, strides, &device_allocator(), kKeys,
                                           c10::dtype_or_default(type));
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef sizes,
                         std::optional<at::MemoryFormat> format) {
  c10::TensorImpl& impl = *self.unsafeGetTensorImpl();
  impl.set_sizes_contiguous(sizes);
  if (format.has_value()) impl.empty_tensor_restride(*format);
  const std::size_t bytes =
      at::detail::computeStorageNbytes(self.sizes(), self.strides(), self.element_size(),
                                       static_cast<std::size_t>(self.storage_offset()));
  if (bytes > self.storage().nbytes()) resize_storage(self.storage(), bytes);
  return self;
}

at::Tensor as_strided(const at::Tensor& self, at::IntArrayRef sizes, at::IntArrayRef strides,
                      std::optional<std::int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, offset);
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, std::int64_t offset,
                        at::IntArrayRef sizes, at::IntArrayRef strides) {
  const std::size_t bytes = at::detail::computeStorageNbytes(sizes, strides, self.element_size(),
                                                             static_cast<std::size_t>(offset));
  TORCH_CHECK(bytes <= source.nbytes(), "a tensor of ", bytes, " bytes in a storage of ",
              source.nbytes());
  c10::TensorImpl& impl = *self.unsafeGetTensorImpl();
  impl.set_storage_keep_dtype(std::move(source));
  impl.set_sizes_and_strides(sizes, strides, offset);
  return self;
}

void record_stream(at::Tensor& self, at::Stream stream) {
  device_allocator().used_on(self.storage().data_ptr(), role_of(stream));
}

/// Lets Module::to and set_data give a tensor of the CPU an implementation of the device.
bool has_compatible_shallow_copy_type(const at::Tensor&, const at::Tensor&) { return true; }

}  // namespace

void resize_storage(const c10::Storage& storage, std::size_t bytes) {
  const CurrentDevice current(storage.device());
  c10::StorageImpl& impl = *storage.unsafeGetStorageImpl();
  c10::DataPtr grown = device_allocator().allocate(bytes);
  const std::size_t kept = std::min(bytes, impl.nbytes());
  if (kept > 0 && impl.data() != nullptr) {
    device_allocator().copy_data(grown.get(), impl.data(), kept);
  }
  impl.set_data_ptr_noswap(std::move(grown));
  impl.set_nbytes(bytes);
}

void register_layout_kernels(torch::Library& aten) {
  aten.impl("empty.memory_format", &empty);
  aten.impl("empty_strided", &empty_strided);
  aten.impl("resize_", &resize);
  aten.impl("as_strided", &as_strided);
  aten.impl("view", &at::native::view);
  aten.impl("_reshape_alias", &at::native::_reshape_alias);
  aten.impl("unfold", &at::native::unfold);
  aten.impl("set_.source_Storage_storage_offset", &set_storage);
  aten.impl("set_.source_Tensor", &at::native::set_tensor_);
  aten.impl("record_stream", &record_stream);
  aten.impl("_has_compatible_shallow_copy_type", &has_compatible_shallow_copy_type);
}

}  // namespace strata::simulated
