#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/tiering/budget.h"
#include "strata/zero3/plan.h"

/// \file
/// Inputs of plans in round figures, for tests of the plan.

namespace strata::zero3 {

/// No bound for any tier.
inline constexpr TierBytes kUnlimited = {tiering::Budget::kUnlimited, tiering::Budget::kUnlimited,
                                         tiering::Budget::kUnlimited};

/// A unit of a trainable vector and a frozen one.
inline UnitLayout unit_of(std::int64_t trainable, std::int64_t frozen = 0) {
  UnitLayout unit;
  unit.add("weight", {trainable}, true);
  if (frozen > 0) unit.add("frozen", {frozen}, false);
  return unit;
}

/// A model of 12 blocks of 7 M parameters and an outer unit of 39 M, in bf16.
inline PlanInput gpt2_like() {
  PlanInput input;
  input.units.push_back(unit_of(39'000'000));
  for (int i = 0; i < 12; ++i) input.units.push_back(unit_of(7'000'000));
  input.format = Precision::kBf16;
  input.budgets = kUnlimited;
  return input;
}

/// Every combination of formats and of moments that an optimizer keeps.
inline std::vector<StateFormat> all_formats() {
  std::vector<StateFormat> formats;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    for (const MasterFormat master : {MasterFormat::kFp32, MasterFormat::k24Bit}) {
      if (master == MasterFormat::k24Bit && precision != Precision::kBf16) continue;
      for (const MomentFormat moments :
           {MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8}) {
        for (const int kept : {0, 1, 2, 3}) {
          StateFormat format = precision;
          format.master = master;
          format.moments = moments;
          format.has_m = (kept & 1) != 0;
          format.has_v = (kept & 2) != 0;
          formats.push_back(format);
        }
      }
    }
  }
  return formats;
}

inline std::uint64_t optimizer_bytes(const StateFormat& format) {
  return state_bytes(format, StateKind::kMaster) + state_bytes(format, StateKind::kM) +
         state_bytes(format, StateKind::kV);
}

/// The bytes of the items of that name, in any tier.
inline std::uint64_t bytes_of(const Plan& plan, const std::string& what) {
  std::uint64_t bytes = 0;
  for (const PlanItem& item : plan.items) {
    if (item.what == what) bytes += item.bytes;
  }
  return bytes;
}

/// The room for one piece of gradients, which ranks that exchange have each once. (One rank has
/// none where the device's memory is host memory, and on an accelerator as many as have room.)
inline std::uint64_t gradient_bucket_bytes(PlanInput input) {
  input.world_size = 2;
  return make_plan(input).bucket_bytes / 2;
}

}  // namespace strata::zero3
