#include "simulated_accelerator/simulated_accelerator.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/Allocator.h>
#include <torch/library.h>

#include "simulated_accelerator/attention_kernels.h"
#include "simulated_accelerator/copy_kernels.h"
#include "simulated_accelerator/device_allocator.h"
#include "simulated_accelerator/device_guard.h"
#include "simulated_accelerator/dropout_kernels.h"
#include "simulated_accelerator/hooks.h"
#include "simulated_accelerator/layout_kernels.h"
#include "simulated_accelerator/lstm_kernels.h"
#include "simulated_accelerator/operator_fallback.h"
#include "simulated_accelerator/pinned_allocator.h"
#include "strata/base/error.h"

namespace strata::simulated {
namespace {

torch::Library& library(const char* of_operators,
                        c10::DispatchKey key = c10::DispatchKey::PrivateUse1) {
  return *new torch::Library(torch::Library::IMPL, of_operators, key, __FILE__, __LINE__);
}

/// Tells LibTorch of the backend. LibTorch keeps what it is told until the process ends, and so
/// nothing here is ever destroyed.
bool register_backend() {
  c10::register_privateuse1_backend("simulated");
  c10::impl::registerDeviceGuard(kDeviceType, new DeviceGuard);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  c10::SetAllocator(kDeviceType, &device_allocator());

  torch::Library& aten = library("aten");
  register_layout_kernels(aten);
  register_copy_kernels(aten);
  register_dropout_kernels(aten);
  register_attention_kernels(aten);
  register_lstm_kernels(library("aten", c10::DispatchKey::AutogradPrivateUse1));
  register_operator_fallback(aten);  // after the others: it takes what they left
  register_fallback_for_other_operators(library("_"));
  return true;
}

// Before main: autograd starts its threads at the first backward pass of a program, one for each
// device that there is by then.
[[maybe_unused]] const bool is_registered = register_backend();

}  // namespace

support::SimDeviceOptions SimulatedAccelerator::roomy() {
  return {.capacity_bytes = 1_GiB, .address_space_bytes = 64_GiB};
}

SimulatedAccelerator::SimulatedAccelerator(const support::SimDeviceOptions& options,
                                           c10::DeviceIndex index)
    : device_(options), index_(index) {
  if (is_live(index)) {
    throw UsageError("a second SimulatedAccelerator of index " + std::to_string(index) +
                     "; end the first before, or give it another index");
  }
  set_live_device(index, &device_);
  current_before_ = exchange_index(index);
}

SimulatedAccelerator::~SimulatedAccelerator() {
  device_allocator().take_back_all(index_);
  pinned_allocator().drop_all(index_);
  set_live_device(index_, nullptr);
  exchange_index(current_before_);
}

}  // namespace strata::simulated
