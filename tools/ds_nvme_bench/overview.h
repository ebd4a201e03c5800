#pragma once

#include <ostream>
#include <span>
#include <string>

#include "report.h"

namespace strata::nvme_bench {

/// A measurement under the name that the overview gives it.
struct NamedReport {
  std::string name;  ///< "sequential read"
  Report report;
};

/// Several measurements of the same disks, a line each, for a person.
void write_overview(std::ostream& out, std::span<const NamedReport> reports);

/// The meaning of the disks for models: the seconds of a step that moves all their state, by the
/// measurement `train_step` of Workload::kTrainStep (see disk_time.h).
void write_model_table(std::ostream& out, const PointResult& train_step);

/// The command that measures a report again: "ds_nvme_bench run /mnt --rw=read --bs=1m ...".
[[nodiscard]] std::string run_command_of(const Report& report);

}  // namespace strata::nvme_bench
