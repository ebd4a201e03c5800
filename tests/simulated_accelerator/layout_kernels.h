#pragma once

#include <torch/library.h>

namespace strata::simulated {

/// Registers what makes tensors and views of them: operators that touch no elements.
void register_layout_kernels(torch::Library& aten);

/// Gives a storage of the device `bytes` bytes; the first ones keep their contents.
void resize_storage(const c10::Storage& storage, std::size_t bytes);

}  // namespace strata::simulated
