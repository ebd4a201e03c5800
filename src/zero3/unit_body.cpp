#include "zero3/unit_body.h"

#include <string_view>
#include <tuple>
#include <utility>

#include "strata/base/error.h"
#include "zero3/body_surroundings.h"
#include "zero3/entrance.h"

namespace strata::zero3 {

using torch::autograd::variable_list;

namespace {

/// The parameters that a body has changed, which then hold nothing of use on the device.
std::vector<std::size_t> changed_by_body(Unit& unit, const std::vector<std::uint32_t>& versions,
                                         const std::vector<std::size_t>& hashes) {
  std::vector<std::size_t> changed = unit.changed_since(versions, hashes);
  for (const std::size_t i : changed) {
    if (!unit.is_in_place(i)) unit.put_in_place(i);
  }
  if (!changed.empty()) unit.spoiled = true;
  return changed;
}

}  // namespace

variable_list cast_inputs(const Unit& unit, variable_list inputs) {
  if (!unit.rules().casts_inputs) return inputs;
  const Precision precision = unit.compute_precision();
  for (torch::Tensor& input : inputs) {
    if (!input.defined() || !input.is_floating_point()) continue;
    if (precision == Precision::kFp32 && input.element_size() != 2) continue;
    input = input.to(scalar_type(precision));
  }
  return inputs;
}

variable_list run_body(Unit& unit, const EntryBody& body, const variable_list& inputs,
                       bool watched) {
  const NoAutocastCache no_cache;
  const std::vector<std::uint32_t> versions = unit.versions();
  const std::vector<std::size_t> hashes = watched ? unit.hashes() : std::vector<std::size_t>();
  variable_list outputs;
  try {
    const auto running = unit.entrance().compute_timer().runs(work_of(unit));
    outputs = body(inputs);
  } catch (const c10::Error& error) {
    std::ignore = changed_by_body(unit, versions, hashes);
    constexpr std::string_view kInPlace = "leaf Variable that requires grad";
    if (std::string_view(error.what()).find(kInPlace) == std::string_view::npos) throw;
    throw UsageError("the body of unit '" + unit.name() +
                     "' changes one of its inputs or parameters in place; change a clone() of it, "
                     "or use the operation that returns a new tensor (relu for relu_)");
  } catch (...) {
    std::ignore = changed_by_body(unit, versions, hashes);
    throw;
  }
  const std::vector<std::size_t> changed = changed_by_body(unit, versions, hashes);
  if (changed.empty()) return outputs;
  const ParameterLayout& parameter = unit.layout().parameters[changed.front()];
  throw UsageError("the body of unit '" + unit.name() + "' changes its parameter '" +
                   unit.layout().full_name(parameter) +
                   "' (an embedding with max_norm does that in forward), and the next step would "
                   "not know of it; change parameters inside with_unsharded(), between steps");
}

variable_list released(const Unit& unit, const variable_list& outputs) {
  variable_list results;
  for (const torch::Tensor& output : outputs) {
    results.push_back(unit.shares_memory(output) ? output.clone() : output);
  }
  return results;
}

}  // namespace strata::zero3
