#include "run_record.h"

#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>

#include "strata/base/error.h"
#include "strata/formats/json.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;
using formats::JsonType;
using formats::JsonValue;

/// A number that was not finite was written as null.
double number_of(const JsonValue& value) {
  return value.is(JsonType::kNull) ? std::numeric_limits<double>::quiet_NaN() : value.as_double();
}

double not_negative(const JsonValue& value) {
  const double number = value.as_double();
  if (number < 0) value.fail("is negative");
  return number;
}

std::int64_t step_of(const JsonValue& line) {
  const JsonValue value = line.at("step");
  if (value.as_int64() < 0) value.fail("is negative");
  return value.as_int64();
}

HopRecord hop_of(const JsonValue& value) {
  HopRecord hop{.busy_seconds = not_negative(value.at("busy_seconds")),
                .wait_seconds = not_negative(value.at("wait_seconds")),
                .bytes = std::nullopt};
  if (const auto bytes = value.find("bytes")) hop.bytes = bytes->as_uint64();
  return hop;
}

RunStep step_from(const JsonValue& line) {
  RunStep step;
  step.step = step_of(line);
  step.loss = number_of(line.at("loss"));
  step.learning_rate = number_of(line.at("learning_rate"));
  step.seconds = not_negative(line.at("step_seconds"));
  step.tokens_per_second = not_negative(line.at("tokens_per_second"));
  for (const tiering::Tier tier : tiering::kTiers) {
    step.held.of(tier) = line.at(std::string(name_of(tier)) + "_bytes").as_uint64();
  }
  step.read_bytes = line.at("read_bytes").as_uint64();
  step.written_bytes = line.at("written_bytes").as_uint64();
  if (const auto bytes = line.find("gathered_bytes")) step.gathered_bytes = bytes->as_uint64();
  if (const auto bytes = line.find("reduced_bytes")) step.reduced_bytes = bytes->as_uint64();
  step.wait_share = not_negative(line.at("wait_share"));
  if (const auto hops = line.find("hops")) {
    step.hops.emplace();
    for (std::size_t hop = 0; hop < kHopCount; ++hop) {
      (*step.hops)[hop] = hop_of(hops->at(kHopNames[hop]));
    }
  }
  if (const auto share = line.find("bound_share")) step.bound_share = number_of(*share);
  if (const auto binds = line.find("binds")) step.binds = binds->as_string();
  return step;
}

/// Adds what a line says to the record.
void take_line(const JsonValue& line, RunRecord& run) {
  if (const auto loss = line.find("eval_loss")) {
    run.evaluations.push_back({.step = step_of(line), .loss = number_of(*loss)});
    return;
  }
  RunStep step = step_from(line);
  if (!run.steps.empty() && step.step <= run.steps.back().step) {
    line.at("step").fail("is not above the step before, " + std::to_string(run.steps.back().step));
  }
  run.steps.push_back(std::move(step));
}

std::string name_of_directory(const fs::path& directory) {
  const fs::path whole = fs::absolute(directory).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

}  // namespace

RunRecord read_run(const fs::path& directory) {
  const fs::path path = directory / "metrics.jsonl";
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    throw ConfigError("report: " + directory.string() + " holds no run (there is no " +
                      path.string() + "); name the directory that strata finetune --output named");
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw system_error("read", path.string(), errno);
  RunRecord run{.name = name_of_directory(directory), .steps = {}, .evaluations = {}};
  std::size_t number = 0;
  for (std::string text; std::getline(in, text);) {
    const std::string place = path.string() + ":" + std::to_string(++number);
    take_line(JsonValue::parse(text, place, formats::JsonRole::kData), run);
  }
  if (in.bad()) throw system_error("read", path.string(), errno);
  if (run.steps.empty()) {
    throw DataError(path.string() +
                    ": holds no step; wait for the first step of the run, or name another run");
  }
  return run;
}

}  // namespace strata::tool
