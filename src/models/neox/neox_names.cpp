#include "models/neox/neox_names.h"

#include <cstdint>
#include <vector>

#include "models/tensor_names.h"

namespace strata::models {

bool is_neox_buffer(std::string_view name, const formats::TensorInfo& tensor) {
  const std::string_view in_block = name_in_block(name, kGptNeoXNames.blocks);
  const std::vector<std::int64_t>& shape = tensor.shape;
  if (in_block == ".attention.rotary_emb.inv_freq") return shape.size() == 1;
  if (in_block == ".attention.masked_bias") return tensor.elements() == 1;
  return in_block == ".attention.bias" && shape.size() >= 2 &&
         shape.back() == shape[shape.size() - 2] &&
         tensor.elements() == static_cast<std::uint64_t>(shape.back() * shape.back());
}

}  // namespace strata::models
