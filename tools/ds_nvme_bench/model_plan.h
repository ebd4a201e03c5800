#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "disk_time.h"
#include "scaled_number.h"
#include "strata/aio/disk.h"

/// \file
/// The meaning of a disk for a model, before anything is bought or started: arithmetic only.

namespace strata::nvme_bench {

/// The format of a parameter's state, and the bytes that a step moves when all of it is on disk:
/// the weight is read once for forward and backward (the device keeps it between the two; where it
/// cannot, a second time), and the optimizer reads and writes all of it.
struct StateFormat {
  std::string_view name;
  std::string_view states;
  double weight_bytes = 0;   ///< bytes that forward and backward read
  double at_rest_bytes = 0;  ///< bytes of all of it

  [[nodiscard]] Traffic traffic() const {
    return {.read_bytes = weight_bytes + at_rest_bytes, .written_bytes = at_rest_bytes};
  }
};

/// The formats that Strata has.
[[nodiscard]] std::span<const StateFormat> state_formats();

struct PlanInput {
  double parameters = 0;
  DiskSpeeds speeds;                  ///< speeds of all disks together
  std::uint32_t disks = 1;            ///< disks that share the writes evenly
  bool recomputation = true;          ///< forward is run again in backward
  std::vector<double> flops;          ///< speeds of computing to answer for, FLOP/s
  std::optional<double> rated_bytes;  ///< bytes that one drive may be written; nullopt: unknown
};

/// Tokens a step must have so that computing takes as long as the disk.
struct HidingTokens {
  double flops = 0;
  double tokens = 0;
};

/// The plan of one format.
struct FormatPlan {
  StateFormat format;
  double bytes_at_rest = 0;
  double bytes_read = 0;  ///< per step
  double bytes_written = 0;
  double disk_seconds = 0;  ///< per step
  std::vector<HidingTokens> hiding;
  double bytes_written_per_day = 0;  ///< stepping without pause, bound by the disk
  /// Days until a drive has been written as much as it is rated for.
  std::optional<double> days_of_endurance;
  std::optional<double> steps_of_endurance;
};

/// Plans each format. Throws ConfigError for parameters or speeds that are not above 0.
[[nodiscard]] std::vector<FormatPlan> plan_for(const PlanInput& input);

/// Number of drives that the directories of `disks` are on: those of one device share it; one whose
/// device is unknown counts as a drive of its own.
[[nodiscard]] std::uint32_t drives_among(std::span<const aio::DiskDescription> disks);

/// Floating-point operations of one step: 6 for each parameter and token, of which 2 forward and 4
/// backward (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1), 8 when
/// forward is run again (Narayanan et al. 2021, "Efficient Large-Scale Language Model Training on
/// GPU Clusters"). Attention between tokens is left out: it adds to what hides the disk.
[[nodiscard]] double step_flop(double parameters, double tokens, bool recomputation);

using tool::parse_parameters;
/// A speed of computing: "312e12", "312T", "1P" FLOP/s. Throws ConfigError.
[[nodiscard]] double parse_flops(std::string_view text);
/// Terabytes written, as on data sheets: "600", "600TB", "1.2PB"; in bytes. Throws ConfigError.
[[nodiscard]] double parse_tbw(std::string_view text);

}  // namespace strata::nvme_bench
