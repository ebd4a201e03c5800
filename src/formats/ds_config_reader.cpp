#include "formats/ds_config_reader.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "formats/config_scalar.h"
#include "formats/quote.h"
#include "formats/unknown_key.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr double kTrainerRate = 5e-5;      // learning_rate of transformers' Trainer
constexpr double kTorchAdamWDecay = 0.01;  // default of torch.optim.AdamW
constexpr std::size_t kErrorsShownMax = 20;

bool is_section(std::string_view path) {
  return std::any_of(config_keys().begin(), config_keys().end(), [path](const ConfigKey& key) {
    return key.path.size() > path.size() && key.path.starts_with(path) &&
           key.path[path.size()] == '.';
  });
}

/// The byte count that resolved_json writes beside a count of elements.
bool is_byte_count(std::string_view path) {
  if (!path.ends_with(kByteCountSuffix)) return false;
  path.remove_suffix(kByteCountSuffix.size());
  const ConfigKey* const key = find_config_key(path);
  return key != nullptr && element_bytes_of(*key) != nullptr;
}

bool says_auto(const JsonValue& value) {
  return value.is(JsonType::kString) && value.as_string() == "auto";
}

/// The format that DeepSpeed's word means; nullopt: none.
std::optional<Precision> format_of(std::string_view word) {
  if (word.starts_with("torch.")) word.remove_prefix(std::string_view("torch.").size());
  if (word == "fp32" || word == "float32" || word == "float") return Precision::kFp32;
  if (word == "fp16" || word == "float16" || word == "half") return Precision::kFp16;
  if (word == "bf16" || word == "bfloat16") return Precision::kBf16;
  return std::nullopt;
}

}  // namespace

void DsConfigReader::read(const JsonValue& root) {
  root_ = &root;
  attempt([&] { read_section(root, ""); });
  attempt([&] { read_stage(); });
  attempt([&] { choose_precision(); });
  attempt([&] { check_fp16(); });
  attempt([&] { check_master(); });
  check_parameters();
  attempt([&] { complete_optimizer(); });
  attempt([&] { complete_moments(); });
  attempt([&] { complete_scheduler(); });
  attempt([&] { check_cycle(); });
  attempt([&] { check_accumulation(); });
  attempt([&] { check_data_types(); });
  throw_errors();
  note_defaults();
  note_unknown_keys();
}

template <class Step>
void DsConfigReader::attempt(Step step) {
  try {
    step();
  } catch (const ConfigError& error) {
    errors_.emplace_back(error.what());
  }
}

void DsConfigReader::throw_errors() const {
  if (errors_.empty()) return;
  std::string message;
  for (std::size_t i = 0; i < std::min(errors_.size(), kErrorsShownMax); ++i) {
    message += (i == 0 ? "" : "\n") + errors_[i];
  }
  if (errors_.size() > kErrorsShownMax) {
    message += "\nand " + std::to_string(errors_.size() - kErrorsShownMax) + " errors more";
  }
  throw ConfigError(message);
}

void DsConfigReader::read_section(const JsonValue& section, const std::string& prefix) {
  for (const auto& [name, value] : section.members()) {
    const std::string path = prefix + std::string(name);
    attempt([&, key = name, member = value] { read_member(path, key, prefix, member); });
  }
}

void DsConfigReader::read_member(const std::string& path, std::string_view name,
                                 const std::string& prefix, const JsonValue& value) {
  // A dot in a name would let it pass for the path of another key.
  if (name.find('.') != std::string_view::npos) return refuse_unknown(value, name, prefix);
  if (path == "optimizer" && value.is(JsonType::kObject)) has_optimizer_ = !value.members().empty();
  if (path == "zero_optimization" && value.is(JsonType::kBoolean)) {
    return read_key(*find_config_key("zero_optimization.stage"), value);
  }
  if (const ConfigKey* key = find_config_key(path)) {
    read_key(*key, value);
  } else if (is_section(path)) {
    if (!value.is(JsonType::kNull)) read_section(value, path + ".");
  } else if (!is_byte_count(path)) {
    refuse_unknown(value, name, prefix);
  }
}

void DsConfigReader::read_key(const ConfigKey& key, const JsonValue& value) {
  if (std::holds_alternative<WithoutEffect>(key.target)) {
    config_.ignored_keys.emplace_back(key.path);
  }
  if (key.accepts_null && value.is(JsonType::kNull)) {
    nulls_.insert(key.path);
    return;
  }
  const std::string_view current = key.alias_of.empty() ? key.path : key.alias_of;
  const auto [other, is_new] = given_.emplace(current, value);
  if (!is_new) {
    value.fail("means the same as " + other->second.path() + " in line " +
               std::to_string(other->second.line()) + "; keep one of them");
  }
  if (key.accepts_auto && says_auto(value)) {
    if (key.on_auto != nullptr) key.on_auto(config_);
    return;
  }
  try {
    store_value(key, value, config_);
  } catch (const ConfigError&) {
    faulty_.insert(current);
    throw;
  }
}

void DsConfigReader::refuse_unknown(const JsonValue& value, std::string_view name,
                                    const std::string& prefix) {
  if (is_comment_key(name)) return;
  const std::string fault = fault_of_unknown_key(name, prefix);
  if (!fault.empty()) value.fail(fault);
  unknown_keys_.push_back(value.path());
}

void DsConfigReader::read_stage() {
  ZeroConfig& zero = config_.zero;
  if (zero.sub_group_elements == 0) zero.sub_group_elements = ZeroConfig{}.sub_group_elements;
  if (zero.stage == ZeroConfig{}.stage) return;
  const std::string stage = std::to_string(zero.stage);
  constexpr std::array<std::string_view, 3> kShared = {
      "nothing", "the optimizer's states, and gradients too, as in stage 2",
      "the optimizer's states and gradients"};
  config_.notes.push_back("zero_optimization.stage " + stage + ": several ranks share " +
                          std::string(kShared[static_cast<std::size_t>(zero.stage)]) +
                          "; it trains the same numbers as stage 3");
  if (zero.offload_param.device == OffloadDevice::kNone) return;
  zero.offload_param = {};
  config_.notes.push_back("zero_optimization.offload_param is not used in stage " + stage +
                          ", as in DeepSpeed; write \"stage\": 3 to offload the weights");
}

void DsConfigReader::choose_precision() {
  if (is_auto("bf16.enabled")) config_.bf16.enabled = !config_.fp16.enabled;
  if (config_.bf16.enabled && config_.fp16.enabled) {
    place_of("fp16.enabled").fail("fp16 and bf16 are both enabled; choose one");
  }
}

/// Checks the keys of a dynamic scale; a static one does not look at them.
void DsConfigReader::check_fp16() const {
  const Fp16Config& fp16 = config_.fp16;
  if (!fp16.enabled || !fp16.dynamic_loss_scale()) return;
  if (fp16.min_loss_scale <= 0) {
    place_of("fp16.min_loss_scale").fail("0 is too small; it must be above 0");
  }
  if (fp16.loss_scale_window <= 0) {
    place_of("fp16.loss_scale_window").fail("0 is too small; at least 1");
  }
  if (std::ldexp(1.0, static_cast<int>(fp16.initial_scale_power)) >= fp16.min_loss_scale) return;
  const bool names_power = given("fp16.initial_scale_power") != nullptr;
  place_of(names_power ? "fp16.initial_scale_power" : "fp16.min_loss_scale")
      .fail("the loss scale would begin below min_loss_scale");
}

void DsConfigReader::check_master() const {
  if (config_.strata.states.master == MasterFormat::kFp32) return;
  if (config_.precision() == Precision::kBf16) return;
  place_of("strata.states.master")
      .fail(
          "a master of 24 bits is bf16 weights and 8 bits more, but bf16 is not enabled; set "
          "\"bf16\": {\"enabled\": true} or leave the master as \"fp32\"");
}

/// Refuses parameters of another optimizer or schedule than the one that is named.
void DsConfigReader::check_parameters() {
  for (const ConfigKey& key : config_keys()) {
    if (key.applies == nullptr || key.applies(config_)) continue;
    const JsonValue* const value = given(key.path);
    if (value == nullptr) continue;
    const std::string section(key.path.substr(0, key.path.find('.')));
    const std::string type = section + ".type";
    if (faulty_.contains(type)) continue;  // no one knows whose parameter it is
    const JsonValue* const name = given(type);
    attempt([&] {
      if (name != nullptr) value->fail("is not a parameter of " + name->as_string());
      value->fail(section == "optimizer" ? "is not a parameter of AdamW, which is the default"
                                         : "has no meaning without " + section + ".type");
    });
  }
}

void DsConfigReader::complete_optimizer() {
  OptimizerConfig& optimizer = config_.optimizer;
  if (!has_optimizer_) optimizer.lr = kTrainerRate;
  if (optimizer.type == OptimizerType::kAdagrad) {
    if (given("optimizer.params.lr") == nullptr) optimizer.lr = 1e-2;
    if (given("optimizer.params.eps") == nullptr || is_auto("optimizer.params.eps")) {
      optimizer.eps = 1e-10;
    }
  }
  const JsonValue* const torch_adam = given("optimizer.params.torch_adam");
  if (torch_adam != nullptr && optimizer.is_adam() && bool_of(*torch_adam) &&
      optimizer.decoupled_weight_decay() && given("optimizer.params.weight_decay") == nullptr) {
    optimizer.weight_decay = kTorchAdamWDecay;
  }
  if (optimizer.nesterov && (optimizer.momentum == 0 || optimizer.dampening != 0)) {
    place_of("optimizer.params.nesterov").fail("takes a momentum above 0 and no dampening");
  }
}

/// Takes moments of 8 bits where the optimizer's name asks for them.
void DsConfigReader::complete_moments() {
  const JsonValue* const type = given("optimizer.type");
  if (type == nullptr) return;
  if (!lower_case(type->as_string()).ends_with("_8bit")) return;
  MomentFormat& moments = config_.strata.states.moments;
  const JsonValue* const named = given("strata.states.moments");
  if (named != nullptr && moments != MomentFormat::kInt8) {
    named->fail("optimizer.type " + type->as_string() +
                " has moments of 8 bits; write \"int8\", or \"AdamW\" there");
  }
  moments = MomentFormat::kInt8;
}

void DsConfigReader::complete_scheduler() {
  SchedulerConfig& scheduler = config_.scheduler;
  if (scheduler.is_trainers()) return complete_trainers_schedule();
  if (scheduler.type == SchedulerType::kWarmupDecayLR &&
      given("scheduler.params.warmup_max_lr") == nullptr &&
      !is_null("scheduler.params.warmup_max_lr")) {
    scheduler.warmup_max_lr = 1e-3;  // DeepSpeed's default of this schedule alone
  }
  if (scheduler.ends() && given("scheduler.params.total_num_steps") == nullptr) {
    place_of("scheduler.type")
        .fail(place_of("scheduler.type").as_string() +
              " needs params.total_num_steps: the length of the run in optimizer steps, or "
              "\"auto\"");
  }
}

/// Defaults as in the Trainer, which knows the length of the run and does not warm up unasked.
void DsConfigReader::complete_trainers_schedule() {
  SchedulerConfig& scheduler = config_.scheduler;
  if (given("scheduler.params.warmup_num_steps") == nullptr) scheduler.warmup_num_steps = 0;
  if (scheduler.type != SchedulerType::kCosineWithMinLr) return;
  if (scheduler.min_lr.has_value() == scheduler.min_lr_rate.has_value()) {
    place_of("scheduler.type")
        .fail(
            "cosine_with_min_lr needs one of params.min_lr, a rate, and params.min_lr_rate, a "
            "part of the optimizer's");
  }
  if (scheduler.min_lr && config_.optimizer.lr == 0) {
    place_of("scheduler.params.min_lr").fail("has no meaning beside a rate of 0");
  }
}

void DsConfigReader::check_cycle() const {
  if (config_.scheduler.type != SchedulerType::kOneCycle) return;
  for (const char* rate : {"cycle_min_lr", "cycle_max_lr"}) {
    if (given("scheduler.params." + std::string(rate)) == nullptr) {
      place_of("scheduler.type").fail("OneCycle needs params." + std::string(rate));
    }
  }
}

/// Refuses what several micro-batches in a step cannot go with.
void DsConfigReader::check_accumulation() const {
  const JsonValue* const managed = given("managed_gradient_accumulation");
  if (managed != nullptr && !bool_of(*managed) && accumulates()) {
    managed->fail(
        "only true is supported with several micro-batches in a step: the engine scales the loss "
        "and steps after the last of them");
  }
}

/// Formats that DeepSpeed would round to and Strata does not.
void DsConfigReader::check_data_types() const {
  const std::string computed(name_of(config_.precision()));
  const auto check = [&](std::string_view path, bool fp32_passes, std::string_view advice) {
    const JsonValue* const value = given(path);
    if (value == nullptr || !value->is(JsonType::kString)) return;
    const auto format = format_of(value->as_string());
    if (!format) value->fail(quote(value->as_string()) + " is none of: fp32, fp16, bf16");
    if (*format == config_.precision() || (fp32_passes && *format == Precision::kFp32)) return;
    value->fail("this run computes in " + computed + "; " + std::string(advice));
  };
  check("data_types.param_dtype", false, "enable bf16 or fp16 to change that, or remove the key");
  check("data_types.buffer_dtype", false,
        "buffers follow the parameters of their unit; remove the key");
  check("data_types.grad_accum_dtype", true, "gradients are added in fp32; write \"fp32\"");
  check("communication_data_type", true, "gradients are not rounded further; remove the key");
  const JsonValue* const gradients = given("data_types.grad_accum_dtype");
  if (gradients != nullptr && gradients->is(JsonType::kString) && accumulates() &&
      format_of(gradients->as_string()) != Precision::kFp32) {
    gradients->fail("the gradients of several micro-batches are added in fp32; write \"fp32\"");
  }
}

void DsConfigReader::note_defaults() {
  if (has_optimizer_) return;
  config_.notes.push_back(
      std::string("there is no section optimizer: AdamW with a rate of 5e-5 is taken, as in "
                  "transformers' Trainer") +
      (config_.scheduler.type == SchedulerType::kNone
           ? "; without a section scheduler the rate stays the same"
           : ""));
}

void DsConfigReader::note_unknown_keys() {
  if (unknown_keys_.empty()) return;
  std::string names;
  for (const std::string& key : unknown_keys_) names += (names.empty() ? "" : ", ") + key;
  config_.notes.push_back("keys that neither Strata nor DeepSpeed looks at: " + names);
}

const JsonValue* DsConfigReader::given(std::string_view path) const {
  const auto found = given_.find(path);
  return found == given_.end() || faulty_.contains(path) ? nullptr : &found->second;
}

const JsonValue& DsConfigReader::place_of(std::string_view path) const {
  const JsonValue* const value = given(path);
  return value == nullptr ? *root_ : *value;
}

bool DsConfigReader::is_auto(std::string_view path) const {
  const JsonValue* const value = given(path);
  return value != nullptr && says_auto(*value);
}

bool DsConfigReader::accumulates() const {
  DsConfig config = config_;
  try {
    config.resolve_batch(/*world_size=*/1);
  } catch (const ConfigError&) {
    return true;  // the batch is refused later
  }
  return config.gradient_accumulation_steps > 1;
}

}  // namespace strata::formats
