#include "zero3/unit_intake.h"

#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "zero3/parameter_values.h"

namespace strata::zero3 {

namespace {

std::string full_name(const std::string& unit, const std::string& name) {
  return unit.empty() ? name : unit + "." + name;
}

/// A module that is registered twice lists its tensors twice.
std::vector<NamedTensor> each_once(const torch::OrderedDict<std::string, torch::Tensor>& items) {
  std::vector<NamedTensor> unique;
  for (const auto& item : items) {
    const auto same = [&](const NamedTensor& other) { return other.tensor.is_same(item.value()); };
    if (!item.value().defined() || std::any_of(unique.begin(), unique.end(), same)) continue;
    unique.push_back({item.key(), item.value()});
  }
  return unique;
}

void check_parameter(const std::string& name, const torch::Tensor& parameter, c10::Device device) {
  if (parameter.layout() != torch::kStrided) {
    throw UsageError("parameter '" + name + "' is " + c10::str(parameter.layout()) +
                     "; a unit's parameters are dense tensors");
  }
  if (!parameter.is_cpu() && !parameter.is_meta() && parameter.device() != device) {
    throw UsageError("parameter '" + name + "' is on " + parameter.device().str() +
                     "; give modules on the CPU, on the meta device or on the engine's device (" +
                     device.str() + ") to shard()");
  }
  check_scalar_type(name, parameter.scalar_type());
}

/// A parameter's place in its storage: first byte and the one behind the last.
std::pair<std::uint64_t, std::uint64_t> bytes_of(const torch::Tensor& parameter) {
  const std::uint64_t width = parameter.element_size();
  const std::uint64_t begin = static_cast<std::uint64_t>(parameter.storage_offset()) * width;
  if (parameter.numel() == 0) return {begin, begin};
  std::uint64_t last = 0;
  for (std::int64_t i = 0; i < parameter.dim(); ++i) {
    last += static_cast<std::uint64_t>((parameter.size(i) - 1) * parameter.stride(i));
  }
  return {begin, begin + (last + 1) * width};
}

}  // namespace

void TakenMemory::check(const std::string& full_name, const torch::Tensor& parameter) const {
  if (at::has_internal_overlap(parameter) == at::MemOverlap::Yes) {
    throw UsageError("parameter '" + full_name +
                     "' is an expanded tensor, whose elements share memory; clone() it");
  }
  const auto taken = taken_.find(parameter.storage().unsafeGetStorageImpl());
  if (taken == taken_.end()) return;
  const auto [begin, end] = bytes_of(parameter);
  for (const Range& range : taken->second.ranges) {
    if (begin == end || begin >= range.end || range.begin >= end) continue;
    throw UsageError("parameters '" + range.name + "' and '" + full_name +
                     "' are views of one tensor; they would be trained apart. Register one of them "
                     "and take the other from it in forward, or clone() it");
  }
}

void TakenMemory::add(const std::string& full_name, const torch::Tensor& parameter) {
  const auto [begin, end] = bytes_of(parameter);
  const c10::Storage& storage = parameter.storage();
  const auto place =
      taken_.try_emplace(storage.unsafeGetStorageImpl(), Taken{storage.getWeakStorageImpl(), {}});
  place.first->second.ranges.push_back({begin, end, full_name});
}

void TakenMemory::add(TakenMemory others) {
  for (auto& [storage, more] : others.taken_) {
    auto& ranges = taken_.try_emplace(storage, Taken{more.storage, {}}).first->second.ranges;
    ranges.insert(ranges.end(), more.ranges.begin(), more.ranges.end());
  }
}

UnitIntake take_in(const std::string& unit, const torch::nn::Module& module,
                   const TakenMemory& taken, c10::Device device) {
  UnitIntake intake{each_once(module.named_parameters()), each_once(module.named_buffers()), {}};
  for (const NamedTensor& buffer : intake.buffers) {
    if (!buffer.tensor.is_meta()) continue;
    throw UsageError("buffer '" + full_name(unit, buffer.name) +
                     "' is on the meta device and has no values; make it on the CPU (only "
                     "parameters are filled by an initializer)");
  }
  std::int64_t elements = 0;
  for (const NamedTensor& parameter : intake.parameters) {
    const std::string name = full_name(unit, parameter.name);
    check_parameter(name, parameter.tensor, device);
    taken.check(name, parameter.tensor);
    intake.memory.check(name, parameter.tensor);
    intake.memory.add(name, parameter.tensor);
    elements += parameter.tensor.numel();
  }
  if (elements == 0) {
    throw UsageError("unit '" + unit + "' has no parameters" +
                     (intake.parameters.empty() ? "" : " with elements") +
                     ": call its module as it is");
  }
  return intake;
}

}  // namespace strata::zero3
