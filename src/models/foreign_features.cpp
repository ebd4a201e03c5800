#include "models/foreign_features.h"

#include <array>
#include <string>

namespace strata::models {

namespace {

using formats::JsonType;
using formats::JsonValue;

/// A key of other models, and the value with which it changes nothing.
struct Foreign {
  enum class Neutral { kNone, kFalse, kZero, kOne };
  std::string_view key;
  Neutral neutral = Neutral::kNone;
};

constexpr std::array kForeign = {
    Foreign{"partial_rotary_factor", Foreign::Neutral::kOne},
    Foreign{"rotary_pct", Foreign::Neutral::kOne},
    Foreign{"embedding_multiplier", Foreign::Neutral::kOne},
    Foreign{"residual_multiplier", Foreign::Neutral::kOne},
    Foreign{"logits_scaling", Foreign::Neutral::kOne},
    Foreign{"logit_scale", Foreign::Neutral::kOne},
    Foreign{"scale_emb", Foreign::Neutral::kOne},
    Foreign{"attention_multiplier"},
    Foreign{"scale_depth"},
    Foreign{"dim_model_base"},
    Foreign{"query_pre_attn_scalar"},
    Foreign{"attn_logit_softcapping"},
    Foreign{"final_logit_softcapping"},
    Foreign{"rope_local_base_freq"},
    Foreign{"sliding_window_pattern"},
    Foreign{"clip_qkv"},
    Foreign{"no_rope_layers"},
    Foreign{"no_rope_layer_interval"},
    Foreign{"use_bidirectional_attention", Foreign::Neutral::kFalse},
    Foreign{"lm_head_bias", Foreign::Neutral::kFalse},
    Foreign{"llama_4_scaling_beta"},
    Foreign{"attn_temperature_tuning", Foreign::Neutral::kFalse},
    Foreign{"use_qk_norm", Foreign::Neutral::kFalse},
    Foreign{"qk_layernorm", Foreign::Neutral::kFalse},
    Foreign{"rope_interleave", Foreign::Neutral::kFalse},
    Foreign{"alibi", Foreign::Neutral::kFalse},
    Foreign{"parallel_attn", Foreign::Neutral::kFalse},
    Foreign{"use_parallel_residual", Foreign::Neutral::kFalse},
    Foreign{"num_experts", Foreign::Neutral::kZero},
    Foreign{"num_local_experts", Foreign::Neutral::kZero},
    Foreign{"n_routed_experts", Foreign::Neutral::kZero},
    Foreign{"moe_intermediate_size"},
    Foreign{"decoder_sparse_step", Foreign::Neutral::kOne},
    Foreign{"shared_expert_intermediate_size", Foreign::Neutral::kZero},
    Foreign{"n_shared_experts", Foreign::Neutral::kZero},
    Foreign{"routed_scaling_factor", Foreign::Neutral::kOne},
    Foreign{"first_k_dense_replace", Foreign::Neutral::kZero},
    Foreign{"num_nextn_predict_layers", Foreign::Neutral::kZero},
    Foreign{"hidden_dropout", Foreign::Neutral::kZero},
    Foreign{"resid_pdrop", Foreign::Neutral::kZero},
    Foreign{"embd_pdrop", Foreign::Neutral::kZero},
};

bool is_neutral(const JsonValue& value, Foreign::Neutral neutral) {
  switch (neutral) {
    case Foreign::Neutral::kNone: return false;
    case Foreign::Neutral::kFalse: return value.is(JsonType::kBoolean) && !value.as_bool();
    case Foreign::Neutral::kZero: return value.as_double() == 0.0;
    case Foreign::Neutral::kOne: return value.as_double() == 1.0;
  }
  return false;
}

}  // namespace

void require_no_foreign_features(const KeyReader& keys, std::string_view model_type,
                                 const std::function<bool(std::string_view key)>& is_own) {
  for (const Foreign& foreign : kForeign) {
    if (is_own(foreign.key)) continue;
    const auto found = keys.find(foreign.key);
    if (found && !is_neutral(*found, foreign.neutral)) {
      found->fail("is a feature of other models, which a \"" + std::string(model_type) +
                  "\" here does not have; it would change the numbers");
    }
  }
}

}  // namespace strata::models
