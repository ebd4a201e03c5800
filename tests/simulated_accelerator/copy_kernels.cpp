#include "simulated_accelerator/copy_kernels.h"

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include "simulated_accelerator/device_tensor.h"
#include "simulated_accelerator/pinned_allocator.h"

namespace strata::simulated {
namespace {

using Ranges = support::SimDevice::Ranges;

Ranges host_range_of(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return {};
  const std::size_t bytes =
      at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size());
  return {{reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()), bytes}};
}

/// Copies elements, and converts them where the types differ, on the current stream.
void put_copy(const std::string& name, const at::Tensor& from, const Ranges& reads,
              const at::Tensor& to, const Ranges& writes) {
  live_device().run_on(current_role(), name, reads, writes, [from, to] {
    const at::NoGradGuard no_grad;
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    to.copy_(from);
  });
}

void upload(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const CurrentDevice current(to.device());
  if (non_blocking && pinned_allocator().owns(from.const_data_ptr())) {
    put_copy("upload", from, host_range_of(from), touchable(to), addresses_of(to));
  } else {
    put_copy("upload", from.clone(), {}, touchable(to), addresses_of(to));
  }
}

/// Does what the host waits for, in words that the clock understands: the host looks at what an
/// operation wrote, and the wait between them is one of the device's.
void wait_for(const Ranges& written) {
  support::SimDevice& device = live_device();
  device.record(current_role()).synchronize(kDeadline);
  device.host_access("read of a download", written, {}, [] {});
}

void download(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const CurrentDevice current(from.device());
  const Ranges written = host_range_of(to);
  put_copy("download", touchable(from), addresses_of(from), to, written);
  if (!non_blocking || !pinned_allocator().owns(to.const_data_ptr())) wait_for(written);
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool non_blocking) {
  const at::NoGradGuard no_grad;
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  if (to.numel() == 0) return to;
  const at::Tensor from = self.sizes() == to.sizes() ? self : self.expand_as(to);
  if (!is_on_device(from)) {
    upload(from, to, non_blocking);
  } else if (!is_on_device(to)) {
    download(from, to, non_blocking);
  } else {
    TORCH_CHECK(from.device() == to.device(), "a copy from ", from.device(), " to ", to.device(),
                ": simulated accelerators know nothing of each other's memory");
    const CurrentDevice current(to.device());
    put_copy("copy", touchable(from), addresses_of(from), touchable(to), addresses_of(to));
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  to.resize_(self.sizes());
  return copy_from(self, to, /*non_blocking=*/false);
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  const at::Tensor value = at::empty({}, self.options().device(at::kCPU));
  download(self.reshape({}), value, /*non_blocking=*/false);
  return value.item();
}

}  // namespace

void register_copy_kernels(torch::Library& aten) {
  aten.impl("_copy_from", &copy_from);
  aten.impl("_copy_from_and_resize", &copy_from_and_resize);
  aten.impl("_local_scalar_dense", &local_scalar_dense);
}

}  // namespace strata::simulated
