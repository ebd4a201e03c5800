#include "run_facts.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

/// Keys, and with a dot at the end all keys below one, that change no bit of a run.
constexpr std::array<std::string_view, 19> kWithoutEffect = {
    "zero_optimization.",         // where states rest, and how much at a time moves
    "activation_checkpointing.",  // where activations rest
    "aio.",
    "steps_per_print",
    "gradient_accumulation_steps",  // the batch over the micro-batch and the ranks
    "strata.budget.",
    "strata.nvme",
    "strata.io",
    "strata.recompute",
    "strata.activations.",
    "strata.chunk_bytes",
    "strata.window_elements",
    "strata.overlap_step",
    "strata.step_under_backward",
    "strata.host_cache",
    "strata.threads",
    "strata.nonfinite",  // a run that such a step has ended may go on without it
    "bf16.check_grad_overflow",
    "strata.simd",
};

/// Whether `key` is `each`, begins with it, or is what resolved_json adds to it for people.
bool is_of(std::string_view key, std::string_view each) {
  if (!key.starts_with(each)) return false;
  const std::string_view rest = key.substr(each.size());
  return each.ends_with('.') || rest.empty() || rest.starts_with('.') || rest == "_bytes";
}

bool changes_numbers(std::string_view key) {
  return std::ranges::none_of(kWithoutEffect,
                              [&](std::string_view each) { return is_of(key, each); });
}

/// "/optimizer/params/lr" as people write it.
std::string key_of(std::string pointer) {
  pointer.erase(0, 1);
  std::ranges::replace(pointer, '/', '.');
  return pointer;
}

}  // namespace

RunFacts facts_of(const formats::DsConfig& config) {
  RunFacts facts;
  const auto flat = nlohmann::json::parse(config.resolved_json()).flatten();
  for (const auto& [pointer, value] : flat.items()) {
    std::string key = key_of(pointer);
    if (changes_numbers(key)) facts.emplace(std::move(key), value.dump());
  }
  return facts;
}

void require_same_facts(const RunFacts& saved, const RunFacts& now,
                        const std::filesystem::path& checkpoint) {
  const auto value_in = [](const RunFacts& facts, const std::string& name) {
    const auto found = facts.find(name);
    return found == facts.end() ? "not there" : found->second;
  };
  std::set<std::string> names;
  for (const RunFacts* const facts : {&saved, &now}) {
    for (const auto& [name, value] : *facts) names.insert(name);
  }
  std::string differences;
  for (const std::string& name : names) {
    const std::string before = value_in(saved, name), here = value_in(now, name);
    if (before != here) differences += "\n  " + name + ": was " + before + ", is " + here;
  }
  if (differences.empty()) return;
  throw ConfigError("--resume: the run of " + checkpoint.string() +
                    " would go on with other numbers:" + differences +
                    "\ngive what it began with, or begin another run in a directory of its own");
}

}  // namespace strata::tool
