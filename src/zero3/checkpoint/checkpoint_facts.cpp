#include "zero3/checkpoint/checkpoint_facts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/json.h"

namespace strata::zero3 {
namespace {

using formats::CheckpointManifest;
using formats::JsonValue;
using OrderedJson = nlohmann::ordered_json;
using Facts = std::vector<std::pair<std::string, std::string>>;

// Section names.
constexpr const char* kTraining = "training";
constexpr const char* kStates = "states";
constexpr const char* kUnits = "units";
constexpr const char* kFrozen = "frozen";
constexpr const char* kSteps = "steps";
constexpr const char* kSquares = "gradient_squares";
constexpr const char* kConfig = "config";

/// The formula of an update, whatever the config calls it.
std::string optimizer_name(const formats::OptimizerConfig& optimizer) {
  switch (optimizer.type) {
    case formats::OptimizerType::kAdam:
    case formats::OptimizerType::kAdamW:
      return optimizer.decoupled_weight_decay() ? "adamw" : "adam";
    case formats::OptimizerType::kSgd: return optimizer.keeps_m() ? "sgd with momentum" : "sgd";
    case formats::OptimizerType::kAdagrad: return "adagrad";
    case formats::OptimizerType::kLion: return "lion";
  }
  return {};
}

/// What makes the bits of states mean what they do.
Facts state_facts(const formats::DsConfig& config) {
  const StateFormat format = config.state_format();
  return {{"optimizer", optimizer_name(config.optimizer)},
          {"precision", std::string(name_of(format.precision))},
          {"master", std::string(name_of(format.master))},
          {"moments", std::string(name_of(format.moments))}};
}

std::vector<std::string> frozen_names(const std::vector<UnitLayout>& units) {
  std::vector<std::string> names;
  for (const UnitLayout& unit : units) {
    for (const ParameterLayout& parameter : unit.parameters) {
      if (!parameter.trainable) names.push_back(unit.full_name(parameter));
    }
  }
  return names;
}

OrderedJson units_json(const std::vector<UnitLayout>& units) {
  OrderedJson all = OrderedJson::array();
  for (const UnitLayout& unit : units) {
    all.push_back({{"name", unit.name}, {"parameters", unit.parameters.size()}});
  }
  return all;
}

/// One number for the many that are the same, and the others by name.
OrderedJson steps_json(const ParameterSteps& steps) {
  std::map<std::int64_t, std::size_t> counts;
  for (const auto& [name, count] : steps) ++counts[count];
  const auto most =
      std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; });
  const std::int64_t usual = most == counts.end() ? 0 : most->first;
  OrderedJson others = OrderedJson::object();
  for (const auto& [name, count] : steps) {
    if (count != usual) others[name] = count;
  }
  return {{"all", usual}, {"but", others}};
}

// A sum is 13 words of 64 bits.
constexpr std::size_t kSquareWords = sizeof(optim_cpu::SumOfSquares) / sizeof(std::uint64_t);
using SquareWords = std::array<std::uint64_t, kSquareWords>;
static_assert(sizeof(SquareWords) == sizeof(optim_cpu::SumOfSquares));

OrderedJson squares_json(const GradientSquares& squares) {
  OrderedJson all = OrderedJson::array();
  for (const auto& [place, sum] : squares) {
    all.push_back({{"unit", place.first},
                   {"vector", place.second},
                   {"words", std::bit_cast<SquareWords>(sum)}});
  }
  return all;
}

[[noreturn]] void fail_other(const CheckpointManifest& manifest, const std::string& why) {
  throw DataError((manifest.directory() / formats::kManifestName).string() + ": " + why);
}

void require_same_units(const CheckpointManifest& manifest, const std::vector<UnitLayout>& units) {
  const std::vector<JsonValue> saved = manifest.section(kUnits).elements();
  for (std::size_t i = 0; i < std::min(saved.size(), units.size()); ++i) {
    const std::string& name = saved[i].at("name").as_string();
    const std::uint64_t count = saved[i].at("parameters").as_uint64();
    if (name == units[i].name && count == units[i].parameters.size()) continue;
    fail_other(manifest, "the checkpoint is of another model: its unit " + std::to_string(i + 1) +
                             " is '" + name + "' of " + std::to_string(count) +
                             " parameters, and this engine's is '" + units[i].name + "' of " +
                             std::to_string(units[i].parameters.size()));
  }
  if (saved.size() == units.size()) return;
  fail_other(manifest, "the checkpoint is of another model: it has " +
                           std::to_string(saved.size()) + " units, and this engine has " +
                           std::to_string(units.size()));
}

void require_same_frozen(const CheckpointManifest& manifest, const std::vector<UnitLayout>& units) {
  std::set<std::string> saved;
  for (const JsonValue& name : manifest.section(kFrozen).elements()) saved.insert(name.as_string());
  const std::vector<std::string> names = frozen_names(units);
  const std::set<std::string> here(names.begin(), names.end());
  std::vector<std::string> different;
  std::ranges::set_symmetric_difference(saved, here, std::back_inserter(different));
  if (different.empty()) return;
  const bool is_saved = saved.contains(different.front());
  fail_other(manifest, "parameter '" + different.front() + "' is " +
                           (is_saved ? "frozen in the checkpoint and trained here"
                                     : "trained in the checkpoint and frozen here") +
                           "; freeze the same ones as the run that wrote it");
}

}  // namespace

CheckpointInfo info_of(const CheckpointManifest& manifest) {
  const formats::CheckpointHead& head = manifest.head();
  return {.tag = head.tag,
          .path = manifest.directory(),
          .step = head.step,
          .micro_steps = head.micro_steps,
          .world_size = head.world_size,
          .program = head.program};
}

std::vector<std::pair<std::string, std::string>> sections_of(const CheckpointFacts& facts) {
  OrderedJson states = OrderedJson::object();
  for (const auto& [name, value] : state_facts(facts.config)) states[name] = value;
  return {{kTraining, to_json(facts.state)},
          {kStates, states.dump()},
          {kUnits, units_json(facts.units).dump()},
          {kFrozen, OrderedJson(frozen_names(facts.units)).dump()},
          {kSteps, steps_json(facts.steps).dump()},
          {kSquares, squares_json(facts.squares).dump()},
          {kConfig, facts.config.resolved_json()}};
}

void require_same_run(const CheckpointManifest& manifest, const formats::DsConfig& config,
                      const std::vector<UnitLayout>& units) {
  const JsonValue states = manifest.section(kStates);
  for (const auto& [name, value] : state_facts(config)) {
    const std::string& saved = states.at(name).as_string();
    if (saved == value) continue;
    fail_other(manifest, "the checkpoint was trained with " + name + " " + saved +
                             ", and this engine's config says " + value +
                             "; go on with the config that it was trained with");
  }
  require_same_units(manifest, units);
  require_same_frozen(manifest, units);
  const std::int64_t micro_steps = manifest.head().micro_steps;
  if (micro_steps == 0 || micro_steps < config.gradient_accumulation_steps) return;
  fail_other(manifest, "the checkpoint was written after " + std::to_string(micro_steps) +
                           " micro-batches of a step, and gradient_accumulation_steps is " +
                           std::to_string(config.gradient_accumulation_steps) +
                           " here; go on with the config that it was trained with");
}

void require_same_tensors(const formats::SafetensorsFile& file, const StoredFile& expected) {
  const auto fail = [&](const std::string& why) {
    throw DataError(file.path().string() + ": is of another model: " + why);
  };
  std::set<std::string_view> names;
  for (const formats::TensorInfo& here : expected.layout.tensors) {
    names.insert(here.name);
    const formats::TensorInfo* const saved = file.find(here.name);
    if (saved == nullptr) fail("there is no tensor '" + here.name + "', which this engine has");
    if (saved->dtype == here.dtype && saved->shape == here.shape) continue;
    fail("tensor '" + here.name + "' is " + saved->description() + ", and this engine's is " +
         here.description());
  }
  for (const formats::TensorInfo& saved : file.tensors()) {
    if (!names.contains(saved.name)) {
      fail("there is a tensor '" + saved.name + "', which this engine does not have");
    }
  }
}

ParameterSteps steps_in(const CheckpointManifest& manifest, const std::vector<UnitLayout>& units) {
  const auto count_of = [](const JsonValue& value) {
    const std::int64_t count = value.as_int64();
    if (count < 0) value.fail("is below 0");
    return count;
  };
  const JsonValue section = manifest.section(kSteps);
  const std::int64_t usual = count_of(section.at("all"));
  ParameterSteps steps;
  for (const UnitLayout& unit : units) {
    for (const ParameterLayout& parameter : unit.parameters) {
      if (parameter.trainable) steps[unit.full_name(parameter)] = usual;
    }
  }
  for (const JsonValue::Member& member : section.at("but").members()) {
    const auto found = steps.find(std::string(member.key));
    if (found == steps.end()) member.value.fail("is of no parameter that this engine trains");
    found->second = count_of(member.value);
  }
  return steps;
}

GradientSquares squares_in(const CheckpointManifest& manifest, std::size_t units) {
  GradientSquares squares;
  for (const JsonValue& entry : manifest.section(kSquares).elements()) {
    const std::uint64_t unit = entry.at("unit").as_uint64();
    const std::uint64_t vector = entry.at("vector").as_uint64();
    if (unit >= units || vector >= kVectorsOfUnit) entry.fail("is of no unit of this engine");
    const std::vector<JsonValue> words = entry.at("words").elements();
    if (words.size() != kSquareWords) entry.at("words").fail("has another number of words");
    SquareWords sum{};
    for (std::size_t i = 0; i < kSquareWords; ++i) sum[i] = words[i].as_uint64();
    squares[{unit, vector}] = std::bit_cast<optim_cpu::SumOfSquares>(sum);
  }
  return squares;
}

}  // namespace strata::zero3
