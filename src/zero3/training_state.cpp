#include "zero3/training_state.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "strata/base/error.h"

namespace strata::zero3 {

namespace {

using formats::JsonValue;

std::int64_t count_at(const JsonValue& object, std::string_view key, std::int64_t smallest) {
  const JsonValue value = object.at(key);
  const std::int64_t count = value.as_int64();
  if (count < smallest) value.fail("is below " + std::to_string(smallest));
  return count;
}

double positive_at(const JsonValue& object, std::string_view key) {
  const JsonValue value = object.at(key);
  const double number = value.as_double();
  if (!std::isfinite(number) || number <= 0) value.fail("is not a number above 0");
  return number;
}

}  // namespace

TrainingState TrainingState::beginning(const formats::DsConfig& config) {
  TrainingState state;
  state.scaler = LossScaler(config.fp16);  // scale 1 when fp16 is off
  return state;
}

std::string to_json(const TrainingState& state) {
  const LossScaler::Standing& scaler = state.scaler.standing();
  const nlohmann::ordered_json root = {{"step", state.step},
                                       {"micro_steps", state.micro_steps},
                                       {"rates", state.rates},
                                       {"loss_scale",
                                        {{"scale", scaler.scale},
                                         {"hysteresis_left", scaler.hysteresis_left},
                                         {"steps", scaler.steps},
                                         {"last_overflow_step", scaler.last_overflow_step}}}};
  try {
    return root.dump(2) + "\n";
  } catch (const nlohmann::json::exception&) {
    throw UsageError(
        "the name of a parameter group with a rate of its own is not UTF-8; rename it");
  }
}

TrainingState resumed(TrainingState fresh, std::string_view text, const std::string& name) {
  return resumed(std::move(fresh), JsonValue::parse(text, name, formats::JsonRole::kData));
}

TrainingState resumed(TrainingState fresh, const JsonValue& root) {
  fresh.step = count_at(root, "step", 0);
  fresh.micro_steps = count_at(root, "micro_steps", 0);
  fresh.rates.clear();
  for (const JsonValue::Member& member : root.at("rates").members()) {
    const double rate = member.value.as_double();
    if (!std::isfinite(rate) || rate < 0) member.value.fail("is no learning rate");
    fresh.rates.emplace(member.key, rate);
  }
  const JsonValue scale = root.at("loss_scale");
  const std::int64_t last_overflow_step = count_at(scale, "last_overflow_step", -1);
  const std::int64_t steps = count_at(scale, "steps", 0);
  if (last_overflow_step >= steps && last_overflow_step >= 0) {
    scale.at("last_overflow_step").fail("is not below steps, " + std::to_string(steps));
  }
  fresh.scaler.resume({.scale = positive_at(scale, "scale"),
                       .hysteresis_left = count_at(scale, "hysteresis_left", 1),
                       .steps = steps,
                       .last_overflow_step = last_overflow_step});
  return fresh;
}

}  // namespace strata::zero3
