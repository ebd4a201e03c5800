#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

// Logs and profiles: they train nothing else.
constexpr ConfigKey kReportingKeys[] = {
    unused("tensorboard.enabled", kBoolean),
    unused("tensorboard.output_path", kText),
    unused("tensorboard.job_name", kText),
    unused("wandb.enabled", kBoolean),
    unused("wandb.group", kText | kNull),
    unused("wandb.team", kText | kNull),
    unused("wandb.project", kText),
    unused("csv_monitor.enabled", kBoolean),
    unused("csv_monitor.output_path", kText),
    unused("csv_monitor.job_name", kText),
    unused("comet.enabled", kBoolean),
    unused("comet.samples_log_interval", kWhole),
    unused("comet.project", kText | kNull),
    unused("comet.workspace", kText | kNull),
    unused("comet.api_key", kText | kNull),
    unused("comet.experiment_name", kText | kNull),
    unused("comet.experiment_key", kText | kNull),
    unused("comet.online", kBoolean | kNull),
    unused("comet.mode", kText | kNull),
    unused("comms_logger.enabled", kBoolean),
    unused("comms_logger.verbose", kBoolean),
    unused("comms_logger.prof_all", kBoolean),
    unused("comms_logger.prof_ops", kList),
    unused("comms_logger.debug", kBoolean),
    unused("flops_profiler.enabled", kBoolean),
    unused("flops_profiler.recompute_fwd_factor", kNumber),
    unused("flops_profiler.profile_step", kWhole),
    unused("flops_profiler.module_depth", kWhole),
    unused("flops_profiler.top_modules", kWhole),
    unused("flops_profiler.detailed", kBoolean),
    unused("flops_profiler.output_file", kText | kNull),
    unused("eigenvalue", kObject),
    unused("autotuning", kObject),
    unused("timers", kObject),
    unused("compile", kObject),
    unused("nebula", kObject),
    unused("datastates_ckpt", kObject),
    unused("hybrid_engine", kObject),
    unused("pipeline", kObject),
};

}  // namespace

std::span<const ConfigKey> reporting_keys() { return kReportingKeys; }

}  // namespace strata::formats
