#include "zero3/ranks/run_facts.h"

#include <nlohmann/json.hpp>
#include <string>

#include "strata/base/shape_text.h"

namespace strata::zero3 {
namespace {

bool is_of_a_host(const std::string& key) {
  return key.find("nvme_path") != std::string::npos || key == "strata.nvme" ||
         key.starts_with("strata.nvme.");  // elements of the list
}

/// "/zero_optimization/stage" as people write it: "zero_optimization.stage".
std::string key_of(std::string pointer) {
  pointer.erase(0, 1);
  for (char& letter : pointer) {
    if (letter == '/') letter = '.';
  }
  return pointer;
}

std::string text_of(const ParameterLayout& parameter) {
  std::string text = shape_text(parameter.shape) + (parameter.trainable ? ", trained" : ", frozen");
  return parameter.fp32 ? text + ", in fp32" : text;
}

}  // namespace

Facts facts_of(const formats::DsConfig& config) {
  Facts facts;
  const auto flat = nlohmann::json::parse(config.resolved_json()).flatten();
  for (const auto& [pointer, value] : flat.items()) {
    const std::string key = key_of(pointer);
    if (!is_of_a_host(key)) facts.emplace_back(key, value.dump());
  }
  return facts;
}

Facts facts_of(const std::vector<UnitLayout>& units) {
  Facts facts;
  for (const UnitLayout& unit : units) {
    for (const ParameterLayout& parameter : unit.parameters) {
      facts.emplace_back(unit.full_name(parameter), text_of(parameter));
    }
  }
  facts.emplace_back("the number of units", std::to_string(units.size()));
  return facts;
}

}  // namespace strata::zero3
