#include "models/checkpoint_names.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "models/text_part.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

constexpr std::array<std::string_view, 4> kWrappers = {
    "_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"};

std::string without_wrappers(std::string_view name) {
  std::string bare;
  while (!name.empty()) {
    const std::size_t length = std::min(name.find('.'), name.size());
    const std::string_view component = name.substr(0, length);
    name.remove_prefix(std::min(length + 1, name.size()));
    if (std::find(kWrappers.begin(), kWrappers.end(), component) != kWrappers.end()) continue;
    if (!bare.empty()) bare += '.';
    bare += component;
  }
  return bare;
}

/// The prefix of "transformer.wte.weight" or "wte.weight", where all names begin with it.
std::string common_prefix(const std::vector<std::string>& names, const TensorNames& family) {
  for (const std::string_view known : family.known) {
    for (const std::string& name : names) {
      if (!name.ends_with(known)) continue;
      std::string_view prefix = std::string_view(name).substr(0, name.size() - known.size());
      if (prefix.ends_with(family.prefix)) prefix.remove_suffix(family.prefix.size());
      const bool is_whole = prefix.empty() || prefix.ends_with('.');
      const auto begins = [prefix](const std::string& other) { return other.starts_with(prefix); };
      if (is_whole && std::all_of(names.begin(), names.end(), begins)) return std::string(prefix);
    }
  }
  return {};
}

}  // namespace

CheckpointNames::CheckpointNames(const formats::ModelDirectory& directory,
                                 const TensorNames& family)
    : is_within_(has_text_part(directory.config_text(), directory.config_path().string())) {
  const std::vector<std::string> stored = directory.names();
  std::vector<std::string> bare;
  bare.reserve(stored.size());
  for (const std::string& name : stored) bare.push_back(without_wrappers(name));
  const std::string prefix = is_within_ ? std::string() : common_prefix(bare, family);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    std::string name = is_within_ ? within(bare[i], family) : bare[i].substr(prefix.size());
    if (name.empty()) {
      others_.push_back(stored[i]);
      continue;
    }
    if (name == family.other_head) name = family.head;
    if (!is_of_head(name, family) && !name.starts_with(family.prefix)) {
      name = std::string(family.prefix) + name;
    }
    const auto [other, is_new] = names_.emplace(std::move(name), stored[i]);
    if (!is_new) {
      throw DataError(directory.path().string() + ": the tensors " + other->second + " and " +
                      stored[i] + " are both " + other->first +
                      "; leave the one that is meant in the files");
    }
  }
}

std::string CheckpointNames::within(std::string_view name, const TensorNames& family) {
  constexpr std::string_view kOld = "language_model.", kNew = "model.language_model.";
  if (name.starts_with(kOld)) return std::string(name.substr(kOld.size()));
  if (name.starts_with(kNew)) return std::string(family.prefix).append(name.substr(kNew.size()));
  return is_of_head(name, family) ? std::string(name) : std::string();
}

std::string CheckpointNames::in_files(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? std::string() : found->second;
}

}  // namespace strata::models
