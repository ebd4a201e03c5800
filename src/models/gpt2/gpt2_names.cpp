#include "models/gpt2/gpt2_names.h"

#include <vector>

#include "models/tensor_names.h"

namespace strata::models {

bool is_causal_mask(std::string_view name, const formats::TensorInfo& tensor) {
  const std::string_view in_block = name_in_block(name, "transformer.h.");
  const std::vector<std::int64_t>& shape = tensor.shape;
  if (in_block == ".attn.masked_bias") return tensor.elements() == 1;
  return in_block == ".attn.bias" && shape.size() >= 2 && shape.back() == shape[shape.size() - 2] &&
         tensor.elements() == static_cast<std::uint64_t>(shape.back() * shape.back());
}

}  // namespace strata::models
