#include "model_plan.h"

#include <array>
#include <set>
#include <string>

#include "strata/base/error.h"
#include "strata/base/number_format.h"

namespace strata::nvme_bench {
namespace {

constexpr double kSecondsPerDay = 86'400;
constexpr double kFlopPerParameterAndToken = 6;
constexpr double kFlopOfRunningForwardAgain = 2;

/// A format by its stored states, with the bytes that state_bytes says.
constexpr StateFormat format_of(std::string_view name, std::string_view states,
                                const strata::StateFormat& stored) {
  double at_rest = 0;
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    at_rest += static_cast<double>(state_bytes(stored, kind));
  }
  return {.name = name,
          .states = states,
          .weight_bytes = static_cast<double>(weight_bytes(stored.precision)),
          .at_rest_bytes = at_rest};
}

constexpr strata::StateFormat bf16_with(MomentFormat moments, MasterFormat master) {
  strata::StateFormat stored = Precision::kBf16;
  stored.moments = moments;
  stored.master = master;
  return stored;
}

constexpr std::array kFormats = {
    format_of("bf16", "bf16 weight, int16 remainder, fp32 m and v", Precision::kBf16),
    format_of("fp16", "fp16 weight, fp32 master, fp32 m and v", Precision::kFp16),
    format_of("fp32", "fp32 weight, fp32 m and v", Precision::kFp32),
    format_of("bf16, bf16 m v", "bf16 weight, int16 remainder, bf16 m and v",
              bf16_with(MomentFormat::kBf16, MasterFormat::kFp32)),
    format_of("bf16, int8 m v", "bf16 weight, int16 remainder, int8 m and v in blocks",
              bf16_with(MomentFormat::kInt8, MasterFormat::kFp32)),
    format_of("24bit, int8 m v", "bf16 weight, int8 remainder, int8 m and v in blocks",
              bf16_with(MomentFormat::kInt8, MasterFormat::k24Bit)),
};

FormatPlan plan_of(const StateFormat& format, const PlanInput& input) {
  FormatPlan plan;
  plan.format = format;
  const Traffic traffic = format.traffic();
  plan.bytes_at_rest = format.at_rest_bytes * input.parameters;
  plan.bytes_read = traffic.read_bytes * input.parameters;
  plan.bytes_written = traffic.written_bytes * input.parameters;
  plan.disk_seconds =
      input.speeds.seconds({.read_bytes = plan.bytes_read, .written_bytes = plan.bytes_written});
  for (const double flops : input.flops) {
    const double flop_per_token = step_flop(input.parameters, 1, input.recomputation);
    plan.hiding.push_back({flops, plan.disk_seconds * flops / flop_per_token});
  }
  plan.bytes_written_per_day = plan.bytes_written / plan.disk_seconds * kSecondsPerDay;
  if (input.rated_bytes) {
    const double of_all_disks = *input.rated_bytes * input.disks;
    plan.days_of_endurance = of_all_disks / plan.bytes_written_per_day;
    plan.steps_of_endurance = of_all_disks / plan.bytes_written;
  }
  return plan;
}

}  // namespace

std::span<const StateFormat> state_formats() { return kFormats; }

std::vector<FormatPlan> plan_for(const PlanInput& input) {
  if (!(input.parameters > 0)) throw ConfigError("a model needs parameters: --params 7B");
  if (!(input.speeds.read > 0 && input.speeds.write > 0)) {
    throw ConfigError(
        "a plan needs the disk's speeds in both directions: name a directory to "
        "measure, --from a result, or --bandwidth-read and --bandwidth-write");
  }
  std::vector<FormatPlan> plans;
  plans.reserve(std::size(kFormats));
  for (const StateFormat& format : kFormats) plans.push_back(plan_of(format, input));
  return plans;
}

std::uint32_t drives_among(std::span<const aio::DiskDescription> disks) {
  std::set<std::string> devices;
  std::uint32_t unknown = 0;
  for (const aio::DiskDescription& disk : disks) {
    if (disk.device.empty()) {
      ++unknown;
    } else {
      devices.insert(disk.device);
    }
  }
  return static_cast<std::uint32_t>(devices.size()) + unknown;
}

double step_flop(double parameters, double tokens, bool recomputation) {
  const double each = kFlopPerParameterAndToken + (recomputation ? kFlopOfRunningForwardAgain : 0);
  return each * parameters * tokens;
}

double parse_flops(std::string_view text) {
  constexpr tool::Scale kScales[] = {{"", 1}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15}};
  return tool::parse_scaled(text, kScales,
                            "a speed in FLOP/s; write for example 312e12, 312T or 1P");
}

double parse_tbw(std::string_view text) {
  constexpr tool::Scale kScales[] = {{"", 1e12}, {"TB", 1e12}, {"PB", 1e15}};
  return tool::parse_scaled(
      text, kScales, "a rated endurance in TB written; write for example 600, 600TB or 1.2PB");
}

}  // namespace strata::nvme_bench
