#include "models/llama/experts_json.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace strata::models {

namespace {

using formats::JsonValue;

constexpr std::int64_t kExpertWidth = 768;  // Qwen3-MoE's

/// Which blocks have experts: not those that "mlp_only_layers" names, of the others every
/// "decoder_sparse_step"-th.
std::vector<bool> read_expert_layers(const LlamaConfig& config, const KeyReader& keys) {
  std::int64_t every = 1;
  keys.read(every, "decoder_sparse_step");
  if (every < 1) keys.find("decoder_sparse_step")->fail("must be at least 1");
  std::vector<bool> has_experts;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    has_experts.push_back((layer + 1) % every == 0);
  }
  if (const auto without = keys.find("mlp_only_layers")) {
    for (const JsonValue& value : without->elements()) {
      const std::int64_t layer = value.as_int64();
      if (layer < 0 || layer >= config.num_hidden_layers) value.fail("is no layer of the model");
      has_experts[static_cast<std::size_t>(layer)] = false;
    }
  }
  const bool all =
      std::all_of(has_experts.begin(), has_experts.end(), [](bool has) { return has; });
  return all ? std::vector<bool>() : has_experts;
}

}  // namespace

void read_experts(LlamaConfig& config, const KeyReader& keys) {
  // transformers takes both names, and writes either.
  const bool is_mixtral = config.type == LlamaConfig::Type::kMixtral;
  keys.read(config.num_experts, is_mixtral ? "num_local_experts" : "num_experts",
            is_mixtral ? "num_experts" : "num_local_experts");
  keys.read(config.num_experts_per_tok, "num_experts_per_tok");
  if (const auto logits = keys.find("output_router_logits"); logits && logits->as_bool()) {
    logits->fail(
        "adds a loss of the routers (\"router_aux_loss_coef\") to that of the tokens, which is not "
        "there; set it to false to train without");
  }
  if (is_mixtral) {
    double noise = 0;
    keys.read(noise, "router_jitter_noise");
    if (noise != 0) keys.find("router_jitter_noise")->fail("is not supported; supported: 0");
    keys.require("norm_topk_prob", true);
    const auto without = keys.find("mlp_only_layers");
    if (without && !without->elements().empty()) {
      without->fail("all blocks of a \"mixtral\" have experts");
    }
    return;
  }
  config.moe_intermediate_size = kExpertWidth;
  keys.read(config.moe_intermediate_size, "moe_intermediate_size");
  config.norm_topk_prob = false;
  keys.read(config.norm_topk_prob, "norm_topk_prob");
  if (config.num_experts > 0) config.expert_layers = read_expert_layers(config, keys);
}

void write_experts(ConfigWriter& out, const LlamaConfig& config) {
  const bool is_mixtral = config.type == LlamaConfig::Type::kMixtral;
  out.set(is_mixtral ? "num_local_experts" : "num_experts", config.num_experts);
  out.set("num_experts_per_tok", config.num_experts_per_tok);
  out.set("output_router_logits", false);
  if (is_mixtral) return;
  out.set("moe_intermediate_size", config.expert_width());
  out.set("norm_topk_prob", config.norm_topk_prob);
  out.set("decoder_sparse_step", 1);
  ConfigWriter::Json without = ConfigWriter::Json::array();
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (config.num_experts > 0 && !config.has_experts(layer)) without.push_back(layer);
  }
  out.set("mlp_only_layers", without);
}

}  // namespace strata::models
