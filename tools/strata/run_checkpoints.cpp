#include "run_checkpoints.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "strata/base/clock.h"
#include "strata/base/error.h"
#include "strata/formats/json.h"

namespace strata::tool {
namespace {

constexpr std::string_view kFact = "fact: ";
constexpr const char* kPlace = "finetune";

std::string to_json(const RunPlace& place) {
  nlohmann::ordered_json root = {
      {"steps", place.steps},
      {"metrics_bytes", place.metrics_bytes},
      {"outcome", nlohmann::ordered_json::parse(to_json(place.outcome))}};
  root["eval_loss_before"] =
      place.eval_loss_before ? nlohmann::ordered_json(*place.eval_loss_before) : nullptr;
  return root.dump();
}

RunPlace place_of(const CheckpointInfo& checkpoint) {
  const auto text = checkpoint.program.find(kPlace);
  const std::string name = (checkpoint.path / "manifest.json").string();
  if (text == checkpoint.program.end()) {
    throw DataError(name +
                    ": was not written by strata finetune, which needs more than an engine's "
                    "states to go on; name a directory of its own checkpoints");
  }
  const auto root = formats::JsonValue::parse(
      text->second, name + ": program.finetune", formats::JsonRole::kData,
      {.bytes_max = std::size_t{1} << 30, .depth_max = 16, .values_max = std::size_t{1} << 26});
  RunPlace place{.steps = root.at("steps").as_int64(),
                 .outcome = outcome_of(root.at("outcome")),
                 .eval_loss_before = std::nullopt,
                 .metrics_bytes = root.at("metrics_bytes").as_uint64()};
  if (place.steps < 1) root.at("steps").fail("is below 1");
  const formats::JsonValue before = root.at("eval_loss_before");
  if (!before.is(formats::JsonType::kNull)) place.eval_loss_before = before.as_double();
  return place;
}

RunFacts facts_in(const CheckpointInfo& checkpoint) {
  RunFacts facts;
  for (const auto& [name, value] : checkpoint.program) {
    if (name.starts_with(kFact)) facts.emplace(name.substr(kFact.size()), value);
  }
  return facts;
}

}  // namespace

RunCheckpoints::RunCheckpoints(const FinetuneOptions& options, RunFacts facts,
                               const Interruption& interruption, Logger& log)
    : options_(options),
      facts_(std::move(facts)),
      interruption_(interruption),
      log_(log),
      directory_(options.checkpoint_directory()),
      found_(find_checkpoint(directory_)) {
  if (!options.resume) {
    if (!found_) return;
    throw ConfigError(directory_.string() +
                      " has checkpoints of another run; add --resume to go on with it, name "
                      "another directory (--checkpoints), or remove this one");
  }
  if (!found_) {
    log.info("--resume: there is no checkpoint in " + directory_.string() +
             " yet; the run begins afresh");
    return;
  }
  place_ = place_of(*found_);
  require_same_facts(facts_in(*found_), facts_, found_->path);
  log.info("the run goes on from " + found_->path.string() + ", after step " +
           std::to_string(place_.steps));
}

void RunCheckpoints::make_directory() const {
  std::error_code code;
  std::filesystem::create_directories(directory_, code);
  if (code) throw system_error("create", directory_.string(), code.value());
}

void RunCheckpoints::load(Engine& engine) const {
  if (!found_) return;
  engine.load_checkpoint(directory_, found_->tag, [&] { interruption_.check(); });
}

bool RunCheckpoints::is_due(std::int64_t step, double seconds) {
  seconds_since_save_ += seconds;
  if (options_.save_every) return step % *options_.save_every == 0;
  return options_.save_minutes && seconds_since_save_ >= *options_.save_minutes * 60;
}

bool RunCheckpoints::save(Engine& engine, const RunPlace& place) {
  seconds_since_save_ = 0;
  CheckpointOptions options{.keep = static_cast<std::size_t>(options_.keep),
                            .before_each_piece = [&] { interruption_.check(); }};
  for (const auto& [name, value] : facts_) options.program[std::string(kFact) + name] = value;
  options.program[kPlace] = to_json(place);
  const Time start = kSystemClock.now();
  try {
    const CheckpointInfo saved =
        engine.save_checkpoint(directory_, checkpoint_tag(place.steps), options);
    char text[48];
    std::snprintf(text, sizeof text, " (%.1f s)", seconds_since(start));
    log_.info("checkpoint " + saved.path.string() + text);
    return true;
  } catch (const DeadlineExceeded&) {
    throw;  // the nvme tier's
  } catch (const IoError& error) {
    log_.warning(std::string(error.what()) + "; the run goes on without this checkpoint");
    return false;
  }
}

}  // namespace strata::tool
