#include "models/tensor_names.h"

#include <algorithm>
#include <variant>

#include "models/gpt2/gpt2_names.h"
#include "models/llama/llama_names.h"
#include "models/neox/neox_names.h"

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

TensorNames names_of(const NeoxConfig& config) {
  const auto same = [](const std::string& full_name) { return full_name; };
  if (config.is_gptj()) {
    return {.prefix = kGptJNames.prefix,
            .embedding = "transformer.wte.weight",
            .known = {"wte.weight", "ln_f.weight"},
            .of_parameter = same,
            .is_buffer = is_causal_mask};
  }
  return {.prefix = kGptNeoXNames.prefix,
          .embedding = "gpt_neox.embed_in.weight",
          .head = "embed_out.weight",
          .other_head = "lm_head.weight",
          .known = {"embed_in.weight", "final_layer_norm.weight"},
          .of_parameter = same,
          .is_buffer = is_neox_buffer};
}

}  // namespace

TensorNames tensor_names(const ModelConfig& config) {
  return std::visit([](const auto& family) { return names_of(family); }, config.family());
}

bool is_of_head(std::string_view name, const TensorNames& family) {
  return name.starts_with(family.head.substr(0, family.head.rfind('.') + 1));
}

std::string_view name_in_block(std::string_view name, std::string_view blocks) {
  if (!name.starts_with(blocks)) return {};
  name.remove_prefix(blocks.size());
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  return digits == 0 ? std::string_view() : name.substr(digits);
}

}  // namespace strata::models
