#include "models/tensor_names.h"

#include <algorithm>
#include <variant>

#include "models/gpt2/gpt2_names.h"
#include "models/llama/llama_names.h"

namespace strata::models {

namespace {

TensorNames names_of(const Gpt2Config& /*config*/) {
  return {.prefix = "transformer.",
          .embedding = "transformer.wte.weight",
          .known = {"wte.weight", "wpe.weight"},
          .of_parameter = checkpoint_name,
          .is_buffer = is_causal_mask};
}

TensorNames names_of(const LlamaConfig& /*config*/) {
  return {.prefix = "model.",
          .embedding = "model.embed_tokens.weight",
          .known = {"embed_tokens.weight", "norm.weight"},
          .of_parameter = [](const std::string& full_name) { return full_name; },
          .is_buffer = is_rope_buffer};
}

}  // namespace

TensorNames tensor_names(const ModelConfig& config) {
  return std::visit([](const auto& family) { return names_of(family); }, config.family());
}

std::string_view name_in_block(std::string_view name, std::string_view blocks) {
  if (!name.starts_with(blocks)) return {};
  name.remove_prefix(blocks.size());
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  return digits == 0 ? std::string_view() : name.substr(digits);
}

}  // namespace strata::models
