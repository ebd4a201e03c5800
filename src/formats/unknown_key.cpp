#include "formats/unknown_key.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "formats/ds_config_keys.h"
#include "formats/nearest_name.h"
#include "formats/quote.h"

namespace strata::formats {
namespace {

/// Names that other programs and older versions give a key, in any section.
struct OtherName {
  std::string_view name;
  std::string_view path;
};

constexpr OtherName kOtherNames[] = {
    {"max_grad_norm", "gradient_clipping"},
    {"grad_clip", "gradient_clipping"},
    {"clip_grad", "gradient_clipping"},
    {"clip_grad_norm", "gradient_clipping"},
    {"max_norm", "gradient_clipping"},
    {"batch_size", "train_batch_size"},
    {"global_batch_size", "train_batch_size"},
    {"micro_batch_size", "train_micro_batch_size_per_gpu"},
    {"micro_batch_size_per_gpu", "train_micro_batch_size_per_gpu"},
    {"train_micro_batch_size", "train_micro_batch_size_per_gpu"},
    {"per_device_train_batch_size", "train_micro_batch_size_per_gpu"},
    {"accumulation_steps", "gradient_accumulation_steps"},
    {"grad_accum_steps", "gradient_accumulation_steps"},
    {"gradient_accumulation", "gradient_accumulation_steps"},
    {"learning_rate", "optimizer.params.lr"},
    {"adam_epsilon", "optimizer.params.eps"},
    {"epsilon", "optimizer.params.eps"},
    {"lr_scheduler", "scheduler"},
    {"warmup_steps", "scheduler.params.warmup_num_steps"},
    {"num_warmup_steps", "scheduler.params.warmup_num_steps"},
    {"total_steps", "scheduler.params.total_num_steps"},
    {"num_training_steps", "scheduler.params.total_num_steps"},
};

/// Sections without effect whose other keys DeepSpeed does not look at.
constexpr std::array<std::string_view, 3> kOpenSections = {"activation_checkpointing.",
                                                           "flops_profiler.", "checkpoint."};

std::string_view last_name(std::string_view path) {
  return path.substr(path.rfind('.') + 1);  // npos + 1 is 0
}

bool has_effect(const ConfigKey& key) {
  return !is_refused(key) && !std::holds_alternative<WithoutEffect>(key.target);
}

/// Keys and sections directly below `prefix`: all, or those with an effect.
std::vector<std::string_view> names_below(std::string_view prefix, bool with_effect) {
  std::set<std::string_view> names;
  for (const ConfigKey& key : config_keys()) {
    if (!key.path.starts_with(prefix) || (with_effect && !has_effect(key))) continue;
    const std::string_view rest = key.path.substr(prefix.size());
    names.insert(rest.substr(0, rest.find('.')));
  }
  return {names.begin(), names.end()};
}

/// "at the top of the file", "inside scheduler.params".
std::string place_of(std::string_view path) {
  const auto dot = path.rfind('.');
  if (dot == std::string_view::npos) return "at the top of the file";
  return "inside " + std::string(path.substr(0, dot));
}

std::string other_name(std::string_view name, std::string_view prefix) {
  const auto* const known =
      std::find_if(std::begin(kOtherNames), std::end(kOtherNames),
                   [name](const OtherName& other) { return other.name == name; });
  if (known == std::end(kOtherNames)) return {};
  std::string advice = "; write " + quote(last_name(known->path));
  const bool is_here = prefix.size() + last_name(known->path).size() == known->path.size() &&
                       known->path.starts_with(prefix);
  if (!is_here) advice += " " + place_of(known->path);
  return advice;
}

/// The places where a section of this name, or a key of it with an effect, is known.
std::string other_place(std::string_view name) {
  // Names of several keys, or of any program's config.
  constexpr std::array<std::string_view, 4> kCommon = {"enabled", "type", "device", "params"};
  if (std::find(kCommon.begin(), kCommon.end(), name) != kCommon.end()) return {};
  for (const ConfigKey& key : config_keys()) {
    for (std::string_view path = key.path;;) {
      const bool is_key = path.size() == key.path.size();
      if (last_name(path) == name && (!is_key || has_effect(key))) {
        return (is_key ? "; it is known as " + std::string(path) + ", which stands "
                       : "; this section stands ") +
               place_of(path);
      }
      const auto dot = path.rfind('.');
      if (dot == std::string_view::npos) break;
      path = path.substr(0, dot);
    }
  }
  return {};
}

std::string similar_name(std::string_view name, std::string_view prefix, bool is_open) {
  const auto all = names_below(prefix, /*with_effect=*/false);
  std::string_view meant = is_open ? misspelled_name(name, all) : nearest_name(name, all);
  if (meant.empty() && is_open) {
    constexpr std::size_t kLengthMin = 3;
    for (const std::string_view known : names_below(prefix, /*with_effect=*/true)) {
      const bool begins_alike = known.starts_with(name) || name.starts_with(known);
      if (begins_alike && std::min(known.size(), name.size()) >= kLengthMin) meant = known;
    }
  }
  return meant.empty() ? "" : "; did you mean " + quote(meant) + "?";
}

}  // namespace

bool is_comment_key(std::string_view name) {
  return name.starts_with('_') || name.starts_with('#') || name.starts_with("//");
}

std::string fault_of_unknown_key(std::string_view name, std::string_view prefix) {
  const bool is_open = prefix.empty() || std::find(kOpenSections.begin(), kOpenSections.end(),
                                                   prefix) != kOpenSections.end();
  std::string advice = other_name(name, prefix);
  if (advice.empty()) advice = other_place(name);
  if (advice.empty()) advice = similar_name(name, prefix, is_open);
  if (advice.empty() && is_open) return {};
  if (advice.empty()) advice = "; known are DeepSpeed's keys, and Strata's own under \"strata\"";
  return "unknown key " + quote(name) + advice;
}

}  // namespace strata::formats
