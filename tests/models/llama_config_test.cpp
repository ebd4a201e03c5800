#include "strata/models/llama_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/models/llama_layout.h"
#include "strata/models/model_config.h"
#include "support/message_of.h"

namespace strata::models::llama_config_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Type = LlamaConfig::Type;

LlamaConfig read(const std::string& text) { return LlamaConfig::from_json(text, "config.json"); }

std::string error_of(const std::string& text) {
  return support::message_of<ConfigError>(
      [&] { (void)ModelConfig::from_json(text, "dir/config.json"); });
}

/// A small model of a type with these keys too.
std::string with(const std::string& type, const std::string& keys) {
  return R"({"model_type": ")" + type + R"(", "vocab_size": 64, "hidden_size": 32,
      "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "max_position_embeddings": 128)" +
         (keys.empty() ? "" : ", ") + keys + "}";
}

TEST(LlamaConfig, PublishedConfigsHaveThePublishedParameters) {
  const std::vector<std::pair<std::string, std::uint64_t>> published = {
      // Llama 3.2 1B
      {R"({"model_type": "llama", "attention_bias": false, "hidden_act": "silu", "head_dim": 64,
           "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
           "mlp_bias": false, "num_attention_heads": 32, "num_hidden_layers": 16,
           "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
           "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
           "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
           "vocab_size": 128256})",
       1'235'814'400u},
      // Mistral 7B v0.1
      {R"({"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
           "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
           "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
           "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 32000})",
       7'241'732'096u},
      // Mixtral 8x7B v0.1
      {R"({"model_type": "mixtral", "hidden_act": "silu", "hidden_size": 4096,
           "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
           "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
           "num_local_experts": 8, "output_router_logits": false, "rms_norm_eps": 1e-05,
           "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": null,
           "tie_word_embeddings": false, "vocab_size": 32000})",
       46'702'792'704u},
      // Qwen3 30B A3B
      {R"({"model_type": "qwen3_moe", "attention_bias": false, "decoder_sparse_step": 1,
           "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
           "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [],
           "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
           "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
           "num_key_value_heads": 4, "output_router_logits": false, "rms_norm_eps": 1e-06,
           "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001,
           "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false,
           "vocab_size": 151936})",
       30'532'122'624u},
      // Qwen2.5 0.5B
      {R"({"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
           "max_position_embeddings": 32768, "max_window_layers": 24, "num_attention_heads": 14,
           "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
           "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
           "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936})",
       494'032'768u},
      // Qwen3 0.6B
      {R"({"model_type": "qwen3", "attention_bias": false, "head_dim": 128, "hidden_size": 1024,
           "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
           "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
           "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
           "sliding_window": null, "tie_word_embeddings": true, "use_sliding_window": false,
           "vocab_size": 151936})",
       596'049'920u},
      // SmolLM3 3B
      {R"({"model_type": "smollm3", "attention_bias": false, "hidden_act": "silu",
           "hidden_size": 2048, "intermediate_size": 11008, "layer_types": null,
           "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false,
           "no_rope_layer_interval": 4, "num_attention_heads": 16, "num_hidden_layers": 36,
           "num_key_value_heads": 4, "pad_token_id": 128004, "rms_norm_eps": 1e-06,
           "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null,
           "use_sliding_window": false, "vocab_size": 128256})",
       3'075'098'624u},
      // OLMo 2 7B
      {R"({"model_type": "olmo2", "attention_bias": false, "hidden_size": 4096,
           "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32,
           "num_hidden_layers": 32, "num_key_value_heads": 32, "pad_token_id": 100277,
           "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 500000,
           "tie_word_embeddings": false, "vocab_size": 100352})",
       7'298'617'344u},
      // Phi-3 mini 4k
      {R"({"model_type": "phi3", "attention_bias": false, "embd_pdrop": 0.0, "hidden_act": "silu",
           "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096,
           "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
           "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0,
           "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
           "sliding_window": 2047, "tie_word_embeddings": false, "vocab_size": 32064})",
       3'821'079'552u},
      // Gemma 2 2B
      {R"({"model_type": "gemma2", "attention_bias": false, "attn_logit_softcapping": 50.0,
           "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 256,
           "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
           "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 8192,
           "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
           "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
           "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000})",
       2'614'341'888u},
      // Gemma 3 1B
      {R"({"model_type": "gemma3_text", "attention_bias": false, "attn_logit_softcapping": null,
           "final_logit_softcapping": null, "head_dim": 256,
           "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
           "intermediate_size": 6912, "max_position_embeddings": 32768, "num_attention_heads": 4,
           "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
           "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
           "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512,
           "sliding_window_pattern": 6, "vocab_size": 262144})",
       999'885'952u},
  };
  for (const auto& [text, parameters] : published) {
    EXPECT_EQ(parameter_count(read(text)), parameters) << text;
  }
}

TEST(LlamaConfig, AbsentKeysHaveTheDefaultsOfTheTypeInTransformers) {
  const LlamaConfig llama = read(R"({"model_type": "llama"})");
  EXPECT_EQ(llama, LlamaConfig{});
  const LlamaConfig mistral = read(R"({"model_type": "mistral"})");
  EXPECT_EQ(mistral.num_key_value_heads, 8);
  EXPECT_EQ(mistral.sliding_window, 4096);
  EXPECT_EQ(mistral.max_position_embeddings, 131072);
  const LlamaConfig qwen2 = read(R"({"model_type": "qwen2"})");
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.output_bias && !qwen2.qk_norm && !qwen2.sliding_window);
  EXPECT_EQ(qwen2.vocab_size, 151936);
  const LlamaConfig qwen3 = read(R"({"model_type": "qwen3"})");
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(read(with("llama", R"("pad_token_id": 3)")).padding_token, 3);
  EXPECT_EQ(read(with("llama", R"("pad_token_id": -1)")).padding_token, 63);  // of 64
  EXPECT_EQ(read(with("llama", R"("pad_token_id": null)")).padding_token, std::nullopt);
  const LlamaConfig smollm3 = read(R"({"model_type": "smollm3"})");
  EXPECT_TRUE(smollm3.tie_word_embeddings && smollm3.rope_of(2) && !smollm3.rope_of(3));
  EXPECT_EQ(smollm3.padding_token, 128004);
  EXPECT_EQ(smollm3.rope.theta, 2e6);
  EXPECT_EQ(read(R"({"model_type": "olmo2"})").rms_norm_eps, 1e-5);
  EXPECT_EQ(read(R"({"model_type": "phi3"})").hidden_size, 3072);
  const LlamaConfig gemma2 = read(R"({"model_type": "gemma2"})");
  EXPECT_EQ(gemma2.attention_soft_cap, 50.0);
  EXPECT_EQ(gemma2.logit_soft_cap, 30.0);
  EXPECT_EQ(gemma2.query_scalar, 256.0);
  const LlamaConfig gemma3 = read(R"({"model_type": "gemma3_text"})");
  EXPECT_TRUE(gemma3.qk_norm && !gemma3.logit_soft_cap && !gemma3.attention_soft_cap);
  EXPECT_EQ(gemma3.rope_of(4)->theta, 1e4);
  EXPECT_EQ(gemma3.rope_of(5)->theta, 1e6);
  // Null is not absent.
  EXPECT_EQ(read(with("gemma2", R"("final_logit_softcapping": null)")).logit_soft_cap,
            std::nullopt);
  EXPECT_EQ(read(with("mistral", R"("sliding_window": null)")).sliding_window, std::nullopt);
  EXPECT_EQ(read(R"({"model_type": "mistral", "num_key_value_heads": null})").num_key_value_heads,
            32);
}

TEST(LlamaConfig, ReadsRopeInBothSpellings) {
  const LlamaConfig old = read(with("llama", R"("rope_theta": 500.0,
      "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32})"));
  const LlamaConfig now = read(with("llama", R"("rope_parameters": {"rope_type": "yarn",
      "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32})"));
  EXPECT_EQ(old, now);
  EXPECT_EQ(now.rope.type, RopeConfig::Type::kYarn);
  EXPECT_EQ(now.rope.theta, 500.0);
  EXPECT_EQ(now.rope.original_context, 32);
  const LlamaConfig both = read(with("llama", R"("rope_theta": 500.0,
      "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
      "rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0,
                          "original_max_position_embeddings": 32})"));
  EXPECT_EQ(both, now);
  EXPECT_EQ(read(with("llama", R"("rope_theta": 500.0, "rope_scaling": null)")).rope.theta, 500.0);
  EXPECT_EQ(read(with("llama", "")).rope.theta, 10000.0);
}

TEST(LlamaConfig, ReadsTheTwoRopesOfGemma3InBothSpellings) {
  const LlamaConfig old = read(with("gemma3_text", R"("rope_theta": 500.0,
      "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0})"));
  const LlamaConfig now = read(with("gemma3_text", R"("rope_parameters": {
      "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 8.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}})"));
  EXPECT_EQ(old, now);
  EXPECT_EQ(now.rope.type, RopeConfig::Type::kLinear);
  EXPECT_EQ(now.sliding_rope->theta, 50.0);
  EXPECT_EQ(now.sliding_rope->type, RopeConfig::Type::kDefault);
}

TEST(LlamaConfig, LayersSlideAsTheTypeHasIt) {
  const auto windows = [](const std::string& type, const std::string& keys) {
    const LlamaConfig config = read(with(type, keys));
    std::vector<std::int64_t> all;
    for (int layer = 0; layer < 3; ++layer) all.push_back(config.window_of(layer).value_or(0));
    return all;
  };
  using Windows = std::vector<std::int64_t>;
  EXPECT_EQ(windows("mistral", R"("sliding_window": 7)"), (Windows{7, 7, 7}));
  EXPECT_EQ(windows("qwen2", R"("sliding_window": 7)"), (Windows{0, 0, 0}));
  const std::string used = R"("sliding_window": 7, "use_sliding_window": true)";
  EXPECT_EQ(windows("qwen2", used), (Windows{0, 0, 0}));  // of 28 layers and more
  EXPECT_EQ(windows("qwen2", used + R"(, "max_window_layers": 2)"), (Windows{0, 0, 7}));
  EXPECT_EQ(windows("qwen3", used + R"(, "max_window_layers": 0)"), (Windows{7, 7, 7}));
  EXPECT_EQ(windows("qwen3", used + R"(, "max_window_layers": 0, "layer_types":
      ["sliding_attention", "full_attention", "sliding_attention"])"),
            (Windows{7, 0, 7}));
  EXPECT_EQ(windows("phi3", R"("pad_token_id": 0)"), (Windows{0, 0, 0}));
  EXPECT_EQ(windows("phi3", R"("pad_token_id": 0, "sliding_window": 7)"), (Windows{7, 7, 7}));
  EXPECT_EQ(windows("gemma2", R"("sliding_window": 7)"), (Windows{7, 0, 7}));
  EXPECT_EQ(windows("gemma3_text", R"("sliding_window": 7)"), (Windows{7, 7, 7}));  // of 6
  EXPECT_EQ(windows("gemma3_text", R"("sliding_window": 7, "sliding_window_pattern": 2)"),
            (Windows{7, 0, 7}));
  EXPECT_EQ(windows("smollm3", R"("pad_token_id": 0, "no_rope_layers": [0, 1, 0, 1])"),
            (Windows{0, 0, 0}));
  EXPECT_EQ(windows("smollm3", used + R"(, "pad_token_id": 0, "no_rope_layers": [0, 1, 0])"),
            (Windows{7, 0, 7}));
  EXPECT_EQ(windows("llama", R"("layer_types": ["full_attention", "full_attention", "attention"])"),
            (Windows{0, 0, 0}));
}

TEST(LlamaConfig, ExpertsAreWhereTheConfigHasThem) {
  const auto experts = [](const std::string& type, const std::string& keys) {
    const LlamaConfig config = read(with(type, keys));
    std::vector<bool> has;
    for (std::int64_t layer = 0; layer < 3; ++layer) has.push_back(config.has_experts(layer));
    return has;
  };
  using Has = std::vector<bool>;
  EXPECT_EQ(experts("mixtral", ""), (Has{true, true, true}));
  EXPECT_EQ(experts("mistral", ""), (Has{false, false, false}));
  EXPECT_EQ(experts("qwen3_moe", ""), (Has{true, true, true}));
  EXPECT_EQ(experts("qwen3_moe", R"("num_experts": 0)"), (Has{false, false, false}));
  EXPECT_EQ(experts("qwen3_moe", R"("decoder_sparse_step": 2)"), (Has{false, true, false}));
  EXPECT_EQ(experts("qwen3_moe", R"("mlp_only_layers": [0, 2])"), (Has{false, true, false}));
  EXPECT_EQ(experts("qwen3_moe", R"("decoder_sparse_step": 2, "mlp_only_layers": [1])"),
            (Has{false, false, false}));
  // Either name of their number, as transformers writes it.
  EXPECT_EQ(read(with("mixtral", R"("num_experts": 4)")).num_experts, 4);
  EXPECT_EQ(read(with("qwen3_moe", R"("num_local_experts": 16)")).num_experts, 16);
  EXPECT_EQ(read(with("qwen3_moe", "")).expert_width(), 768);
  EXPECT_EQ(read(with("mixtral", "")).expert_width(), 48);
}

TEST(LlamaConfig, RefusesWhatItDoesNotComputeByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {with("llama", R"("hidden_act": "gelu")"), "hidden_act"},
      {with("llama", R"("sliding_window": 7)"), "sliding_window"},
      {with("llama", R"("partial_rotary_factor": 0.5)"), "partial_rotary_factor"},
      {with("llama", R"("num_local_experts": 8)"), "num_local_experts"},
      {with("llama", R"("embedding_multiplier": 12.0)"), "embedding_multiplier"},
      {with("llama", R"("final_logit_softcapping": 30.0)"), "final_logit_softcapping"},
      {with("llama", R"("no_rope_layers": [1, 1, 0])"), "no_rope_layers"},
      {with("llama", R"("use_qk_norm": true)"), "use_qk_norm"},
      {with("llama", R"("quantization_config": {"bits": 4})"), "quantization_config"},
      {with("llama", R"("is_causal": false)"), "is_causal"},
      {with("llama", R"("layer_types": ["full_attention"])"), "layer_types"},
      {with("llama", R"("layer_types": ["full_attention", "linear_attention", "attention"])"),
       "linear_attention"},
      {with("mistral", R"("attention_bias": true)"), "attention_bias"},
      {with("qwen2", R"("attention_bias": false)"), "attention_bias"},
      {with("qwen3", R"("mlp_bias": true)"), "mlp_bias"},
      {with("qwen3", R"("layer_types": ["sliding_attention", "attention", "attention"])"),
       "sliding_window"},
      {with("llama", R"("rope_scaling": {"type": "longrope", "factor": 2.0})"), "longrope"},
      {with("llama", R"("rope_scaling": {"type": "linear"})"), "factor"},
      {with("llama", R"("rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 3})"),
       "beta_fast"},
      {with("llama", R"("rope_scaling": {"type": "linear", "factor": 0.0})"), "factor"},
      {with("llama", R"("rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2})"),
       "rope_scaling.type"},
      {with("llama", R"("rope_parameters": {"full_attention": {"rope_theta": 3.0}})"),
       "full_attention"},
      {with("llama", R"("rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0})"), "rope_theta"},
      {with("llama", R"("rope_scaling": {"type": "linear", "factor": 2.0},
                         "rope_parameters": {"rope_type": "linear", "factor": 3.0})"),
       "rope_scaling"},
      {with("smollm3", R"("no_rope_layers": [1, 1])"), "no_rope_layers"},
      {with("smollm3", R"("no_rope_layer_interval": 0)"), "no_rope_layer_interval"},
      {with("smollm3", ""), "pad_token_id"},  // 128004 of 64
      {with("olmo2", R"("sliding_window": 7)"), "sliding_window"},
      {with("olmo2", R"("clip_qkv": 8.0)"), "clip_qkv"},
      {with("phi3", R"("pad_token_id": 0, "rope_scaling": {"type": "longrope",
                        "short_factor": [1.0], "long_factor": [1.0]})"),
       "longrope"},
      {with("phi3", R"("pad_token_id": 0, "rope_scaling": {"type": "linear", "factor": 2.0})"),
       "rope_type"},
      {with("phi3", R"("pad_token_id": 0, "partial_rotary_factor": 0.4)"), "partial_rotary_factor"},
      {with("phi3", R"("pad_token_id": 0, "partial_rotary_factor": 1.5)"), "partial_rotary_factor"},
      {with("phi3", R"("pad_token_id": 0, "resid_pdrop": 0.1)"), "resid_pdrop"},
      {with("phi3", R"("pad_token_id": 0, "lm_head_bias": true)"), "lm_head_bias"},
      {with("gemma2", R"("hidden_activation": "gelu")"), "hidden_activation"},
      {with("gemma2", R"("sliding_window": null)"), "sliding_window"},
      {with("gemma2", R"("use_bidirectional_attention": true)"), "use_bidirectional_attention"},
      {with("gemma2", R"("rope_local_base_freq": 5.0)"), "rope_local_base_freq"},
      {with("gemma2", R"("query_pre_attn_scalar": 0)"), "query_pre_attn_scalar"},
      {with("gemma2", R"("final_logit_softcapping": -1.0)"), "final_logit_softcapping"},
      {with("gemma3_text", R"("attn_logit_softcapping": 50.0)"), "attn_logit_softcapping"},
      {with("gemma3_text", R"("rope_parameters": {"rope_type": "default"})"), "rope_type"},
      {with("gemma3_text", R"("rope_parameters": {"sliding_attention": {"rope_type": "linear",
                               "factor": 2.0}})"),
       "rope_type"},
      {with("mixtral", R"("output_router_logits": true)"), "output_router_logits"},
      {with("mixtral", R"("router_jitter_noise": 0.1)"), "router_jitter_noise"},
      {with("mixtral", R"("num_local_experts": 0)"), "num_local_experts"},
      {with("mixtral", R"("norm_topk_prob": false)"), "norm_topk_prob"},
      {with("mixtral", R"("moe_intermediate_size": 7)"), "moe_intermediate_size"},
      {with("mixtral", R"("mlp_only_layers": [1])"), "mlp_only_layers"},
      {with("mixtral", R"("decoder_sparse_step": 2)"), "decoder_sparse_step"},
      {with("mixtral", R"("num_experts_per_tok": 9)"), "num_experts_per_tok"},
      {with("mixtral", R"("num_experts": 4, "num_local_experts": 5)"), "num_experts"},
      {with("mixtral", R"("n_shared_experts": 1)"), "n_shared_experts"},
      {with("qwen3_moe", R"("output_router_logits": true)"), "output_router_logits"},
      {with("qwen3_moe", R"("shared_expert_intermediate_size": 8)"),
       "shared_expert_intermediate_size"},
      {with("qwen3_moe", R"("decoder_sparse_step": 0)"), "decoder_sparse_step"},
      {with("qwen3_moe", R"("mlp_only_layers": [3])"), "mlp_only_layers"},
      {with("qwen3_moe", R"("routed_scaling_factor": 2.5)"), "routed_scaling_factor"},
      {with("gemma3", R"("text_config": {"model_type": "gemma4_text"})"), "text_config"},
      {with("llama", R"("head_dim": 7)"), "head_dim"},
      {with("llama", R"("pad_token_id": 64)"), "pad_token_id"},
      {with("llama", R"("rms_norm_eps": 0)"), "rms_norm_eps"},
      {R"({"model_type": "llama", "num_key_value_heads": 5})", "num_key_value_heads"},
      {R"({"model_type": "llama", "num_key_value_heads": 64})", "num_key_value_heads"},
      {R"({"model_type": "llama", "num_attention_heads": 33})", "hidden_size"},
      {R"({"model_type": "llama", "hidden_size": "4096"})", "hidden_size"},
      {R"({"model_type": "llama", "num_hidden_layers": 99999999999})", "num_hidden_layers"},
  };
  for (const auto& [text, key] : cases) {
    EXPECT_THAT(error_of(text), AllOf(HasSubstr("dir/config.json"), HasSubstr(key))) << text;
  }
}

TEST(LlamaConfig, TakesKeysOfOtherModelsThatChangeNothing) {
  EXPECT_EQ(read(with("llama", R"("partial_rotary_factor": 1.0, "num_experts": 0, "alibi": false,
                          "final_logit_softcapping": null, "auto_map": {"AutoModel": "x.Y"},
                          "eos_token_id": [1, 2], "use_cache": "no", "pretraining_tp": 2,
                          "hidden_act": "swish")")),
            read(with("llama", "")));
}

TEST(LlamaConfig, ATypeThatIsNotThereIsRefusedWithThoseThatAre) {
  const std::string message = error_of(R"({"model_type": "deepseek_v3"})");
  EXPECT_THAT(message, AllOf(HasSubstr("deepseek_v3"), HasSubstr("gpt2, llama, mistral, qwen2")));
  for (const std::string_view type : ModelConfig::model_types()) {
    EXPECT_THAT(message, HasSubstr(std::string(type)));
  }
}

TEST(LlamaConfig, IsReadAgainAsItWasWritten) {
  for (const std::string& text :
       {with("llama",
             R"("pad_token_id": 5, "attention_bias": true, "mlp_bias": true, "head_dim": 6)"),
        with("llama", R"("rope_scaling": {"type": "linear", "factor": 2.0}, "head_dim": 8)"),
        with("mistral", R"("sliding_window": 7, "head_dim": 8, "tie_word_embeddings": true)"),
        with("qwen2", R"("sliding_window": 7, "use_sliding_window": true, "head_dim": 8,
                          "max_window_layers": 1)"),
        with("qwen3", R"("attention_bias": true, "rope_theta": 5.0, "rope_scaling": {
                          "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0})"),
        with("smollm3", R"("pad_token_id": 0, "no_rope_layers": [0, 1, 1], "head_dim": 8,
                           "mlp_bias": true)"),
        with("olmo2", R"("attention_bias": true, "head_dim": 8)"),
        with("phi3", R"("pad_token_id": null, "partial_rotary_factor": 0.5,
                         "sliding_window": 9, "head_dim": 8)"),
        with("mixtral", R"("sliding_window": 9, "num_local_experts": 3, "head_dim": 8)"),
        with("qwen3_moe", R"("use_sliding_window": true, "sliding_window": 5, "num_experts": 9,
                             "num_experts_per_tok": 4, "moe_intermediate_size": 5, "head_dim": 8,
                             "norm_topk_prob": true, "decoder_sparse_step": 2,
                             "attention_bias": true)"),
        with("gemma2", R"("sliding_window": 7, "attn_logit_softcapping": null,
                          "query_pre_attn_scalar": 144.5)"),
        with("gemma3_text", R"("sliding_window": 7, "sliding_window_pattern": 2,
                               "rope_local_base_freq": 77.0, "final_logit_softcapping": 12.0,
                               "rope_scaling": {"rope_type": "linear", "factor": 8.0})")}) {
    const ModelConfig config = read(text);
    EXPECT_EQ(ModelConfig::from_json(config.to_json("float32"), "written"), config) << text;
  }
}

TEST(LlamaConfig, KeepsTheConfigThatTheModelCameWith) {
  const std::string original = R"({
  "z_custom": [1, 2.5, "x"],
  "hidden_size": 64,
  "model_type": "llama",
  "rope_parameters": {
    "rope_theta": 77.0,
    "rope_type": "default"
  },
  "tie_word_embeddings": true
})";
  const LlamaConfig config = read(original);
  const std::string written = config.to_json("bfloat16", original);
  for (const char* kept : {"z_custom", "2.5", "\"rope_theta\": 77.0", "\"hidden_size\": 64"}) {
    EXPECT_THAT(written, HasSubstr(kept));
  }
  EXPECT_THAT(written, testing::Not(HasSubstr("rope_scaling")));
  EXPECT_EQ(config.to_json("bfloat16", written), written);
  LlamaConfig own_head = config;
  own_head.tie_word_embeddings = false;
  EXPECT_EQ(read(own_head.to_json("bfloat16", original)), own_head);
  LlamaConfig other = config;
  other.hidden_size = 128;
  EXPECT_THROW((void)other.to_json("float32", original), ConfigError);
}

}  // namespace
}  // namespace strata::models::llama_config_test
