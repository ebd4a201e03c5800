#include "formats/ds_config_reader.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "formats/ds_config_value.h"
#include "formats/nearest_name.h"
#include "formats/quote.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

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
  if (key == nullptr) return false;
  const auto* const integer = std::get_if<IntegerField>(&key->target);
  return integer != nullptr && integer->bytes_per_element != nullptr;
}

std::string_view last_name(std::string_view path) {
  return path.substr(path.rfind('.') + 1);  // npos + 1 is 0
}

/// Keys and sections directly below `prefix` ("" or "section.").
std::vector<std::string_view> names_below(std::string_view prefix) {
  std::set<std::string_view> names;
  for (const ConfigKey& key : config_keys()) {
    if (!key.path.starts_with(prefix)) continue;
    const std::string_view rest = key.path.substr(prefix.size());
    names.insert(rest.substr(0, rest.find('.')));
  }
  return {names.begin(), names.end()};
}

bool says_auto(const JsonValue& value) {
  return value.is(JsonType::kString) && value.as_string() == "auto";
}

}  // namespace

void DsConfigReader::read(const JsonValue& root) {
  read_section(root, "");
  check_stage();
  choose_precision();
  check_fp16();
  check_master();
  check_parameters();
  complete_optimizer();
  complete_scheduler();
}

void DsConfigReader::read_section(const JsonValue& section, const std::string& prefix) {
  for (const auto& [name, value] : section.members()) {
    // A dot in a name would let it pass for the path of another key.
    if (name.find('.') != std::string_view::npos) fail_unknown(value, name, prefix);
    const std::string path = prefix + std::string(name);
    if (const ConfigKey* key = find_config_key(path)) {
      read_key(*key, value);
    } else if (is_section(path)) {
      if (!value.is(JsonType::kNull)) read_section(value, path + ".");
    } else if (!is_byte_count(path)) {
      fail_unknown(value, name, prefix);
    }
  }
}

void DsConfigReader::read_key(const ConfigKey& key, const JsonValue& value) {
  if (std::holds_alternative<WithoutEffect>(key.target)) {
    config_.ignored_keys.emplace_back(key.path);
  }
  if (key.accepts_null && value.is(JsonType::kNull)) return;
  const std::string_view current = key.alias_of.empty() ? key.path : key.alias_of;
  if (const auto [other, is_new] = given_.emplace(current, value); !is_new) {
    value.fail("means the same as " + other->second.path() + " in line " +
               std::to_string(other->second.line()) + "; keep one of them");
  }
  if (key.accepts_auto && says_auto(value)) {
    if (key.on_auto != nullptr) key.on_auto(config_);
    return;
  }
  store_value(key.target, value, config_);
}

void DsConfigReader::fail_unknown(const JsonValue& value, std::string_view name,
                                  std::string_view prefix) const {
  const std::string unknown = "unknown key " + quote(name);
  for (const ConfigKey& key : config_keys()) {
    if (last_name(key.path) == name && name != "enabled") {
      value.fail(unknown + " here; it is known as " + std::string(key.path));
    }
  }
  const std::string_view nearest = nearest_name(name, names_below(prefix));
  if (!nearest.empty()) value.fail(unknown + "; did you mean " + quote(nearest) + "?");
  value.fail(unknown + "; known are DeepSpeed's keys, and Strata's own under \"strata\"");
}

void DsConfigReader::check_stage() const {
  if (config_.zero.stage == ZeroConfig{}.stage) return;
  given("zero_optimization.stage")
      ->fail("stage " + std::to_string(config_.zero.stage) +
             " is not supported; Strata partitions and offloads parameters, gradients and "
             "optimizer states, which is stage 3");
}

void DsConfigReader::choose_precision() {
  if (is_auto("bf16.enabled")) config_.bf16.enabled = !config_.fp16.enabled;
  if (config_.bf16.enabled && config_.fp16.enabled) {
    given("fp16.enabled")->fail("fp16 and bf16 are both enabled; choose one");
  }
}

void DsConfigReader::check_fp16() const {
  const Fp16Config& fp16 = config_.fp16;
  if (!fp16.dynamic_loss_scale()) return;
  if (std::ldexp(1.0, static_cast<int>(fp16.initial_scale_power)) >= fp16.min_loss_scale) return;
  const JsonValue* const power = given("fp16.initial_scale_power");
  (power != nullptr ? power : given("fp16.min_loss_scale"))
      ->fail("the loss scale would begin below min_loss_scale");
}

void DsConfigReader::check_master() const {
  if (config_.strata.states.master == MasterFormat::kFp32) return;
  if (config_.precision() == Precision::kBf16) return;
  given("strata.states.master")
      ->fail(
          "a master of 24 bits is bf16 weights and 8 bits more, but bf16 is not enabled; set "
          "\"bf16\": {\"enabled\": true} or leave the master as \"fp32\"");
}

/// Refuses parameters of another optimizer or schedule than the one that is named.
void DsConfigReader::check_parameters() const {
  for (const ConfigKey& key : config_keys()) {
    if (key.applies == nullptr || key.applies(config_)) continue;
    const JsonValue* const value = given(key.path);
    if (value == nullptr) continue;
    const std::string section(key.path.substr(0, key.path.find('.')));
    const JsonValue* const type = given(section + ".type");
    if (type != nullptr) value->fail("is not a parameter of " + type->as_string());
    value->fail(section == "optimizer" ? "is not a parameter of AdamW, which is the default"
                                       : "has no meaning without " + section + ".type");
  }
}

void DsConfigReader::complete_optimizer() {
  OptimizerConfig& optimizer = config_.optimizer;
  if (optimizer.type == OptimizerType::kAdagrad) {
    if (given("optimizer.params.lr") == nullptr) optimizer.lr = 1e-2;
    if (given("optimizer.params.eps") == nullptr || is_auto("optimizer.params.eps")) {
      optimizer.eps = 1e-10;
    }
  }
  if (optimizer.nesterov && (optimizer.momentum == 0 || optimizer.dampening != 0)) {
    given("optimizer.params.nesterov")->fail("takes a momentum above 0 and no dampening");
  }
}

void DsConfigReader::complete_scheduler() {
  SchedulerConfig& scheduler = config_.scheduler;
  if (scheduler.type == SchedulerType::kWarmupDecayLR &&
      given("scheduler.params.warmup_max_lr") == nullptr) {
    scheduler.warmup_max_lr = 1e-3;  // DeepSpeed's default of this schedule alone
  }
  if (scheduler.ends() && given("scheduler.params.total_num_steps") == nullptr) {
    given("scheduler.type")
        ->fail(given("scheduler.type")->as_string() +
               " needs params.total_num_steps: the length of the run in optimizer steps, or "
               "\"auto\"");
  }
}

const JsonValue* DsConfigReader::given(std::string_view path) const {
  const auto found = given_.find(path);
  return found == given_.end() ? nullptr : &found->second;
}

bool DsConfigReader::is_auto(std::string_view path) const {
  const JsonValue* const value = given(path);
  return value != nullptr && says_auto(*value);
}

}  // namespace strata::formats
