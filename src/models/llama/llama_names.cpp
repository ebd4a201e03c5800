#include "models/llama/llama_names.h"

#include "models/tensor_names.h"

namespace strata::models {

bool is_rope_buffer(std::string_view name, const formats::TensorInfo& tensor) {
  return tensor.shape.size() == 1 &&
         (name == "model.rotary_emb.inv_freq" ||
          name_in_block(name, "model.layers.") == ".self_attn.rotary_emb.inv_freq");
}

}  // namespace strata::models
