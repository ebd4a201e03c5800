#include "step_trace.h"

#include <string>
#include <utility>

#include "plural.h"
#include "strata/base/error.h"
#include "strata/formats/chrome_trace.h"

namespace strata::tool {

StepTrace::StepTrace(const TraceSteps* steps, std::filesystem::path path, Logger& log)
    : steps_(steps), path_(std::move(path)), log_(log) {}

void StepTrace::before_step(std::int64_t step, Engine& engine) {
  if (steps_ == nullptr || records_ || !steps_->contains(step)) return;
  records_ = true;
  engine.record_into(&timeline_);
  sample_tiers(engine);
}

void StepTrace::after_step(std::int64_t step, Engine& engine) {
  sample_tiers(engine);
  if (records_ && step == steps_->last) end(engine);
}

void StepTrace::end(Engine& engine) {
  if (!std::exchange(records_, false)) return;
  engine.record_into(nullptr);
  write();
}

void StepTrace::sample_tiers(const Engine& engine) {
  if (!records_) return;
  const Time now = kSystemClock.now();
  for (const tiering::Tier tier : tiering::kTiers) {
    timeline_.sample(std::string(name_of(tier)) + " bytes", engine.use(tier).used, now);
  }
}

void StepTrace::write() {
  const TimelineRecord record = timeline_.read();
  try {
    formats::write_chrome_trace(path_, record);
  } catch (const IoError& error) {
    log_.warning(std::string(error.what()) + "; the run goes on without a trace");
    return;
  }
  if (record.dropped > 0) {
    log_.warning("the trace is full: it lacks " + counted(record.dropped, "span") +
                 ", from the first steps' end on; name fewer steps");
  }
}

}  // namespace strata::tool
