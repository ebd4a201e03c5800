#include "generation_config.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/json.h"

namespace strata::tool {
namespace {

using formats::JsonType;
using formats::JsonValue;

/// Keys that change the choice of tokens, with the values that change nothing.
constexpr std::array<std::pair<std::string_view, double>, 10> kNeutral = {
    {{"repetition_penalty", 1.0},
     {"no_repeat_ngram_size", 0.0},
     {"encoder_repetition_penalty", 1.0},
     {"num_beams", 1.0},
     {"min_length", 0.0},
     {"min_new_tokens", 0.0},
     {"typical_p", 1.0},
     {"epsilon_cutoff", 0.0},
     {"eta_cutoff", 0.0},
     {"min_p", 0.0}}};
constexpr std::array<std::string_view, 7> kNeutralIfAbsent = {
    "bad_words_ids",   "sequence_bias",         "forced_bos_token_id", "forced_eos_token_id",
    "suppress_tokens", "begin_suppress_tokens", "stop_strings"};
constexpr std::array<std::string_view, 3> kOptions = {"temperature", "top_p", "top_k"};

std::optional<JsonValue> value_of(const JsonValue& object, std::string_view key) {
  auto value = object.find(key);
  if (value && value->is(JsonType::kNull)) value.reset();
  return value;
}

std::vector<std::int64_t> tokens_of(const JsonValue& value) {
  std::vector<std::int64_t> tokens;
  if (value.is(JsonType::kArray)) {
    for (const JsonValue& element : value.elements()) tokens.push_back(element.as_int64());
  } else {
    tokens.push_back(value.as_int64());
  }
  return tokens;
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw system_error("read", path.string(), errno);
  return text;
}

bool is_number(const JsonValue& value) {
  return value.is(JsonType::kInteger) || value.is(JsonType::kNumber);
}

void note_choices(const JsonValue& config, GenerationConfig& read) {
  for (const auto& [key, neutral] : kNeutral) {
    const auto value = value_of(config, key);
    if (value && is_number(*value) && value->as_double() != neutral) {
      read.not_followed.emplace_back(key);
    }
  }
  for (const std::string_view key : kNeutralIfAbsent) {
    if (value_of(config, key)) read.not_followed.emplace_back(key);
  }
  const auto draws = value_of(config, "do_sample");
  if (!draws || !draws->is(JsonType::kBoolean) || !draws->as_bool()) return;
  for (const std::string_view key : kOptions) {
    const auto value = value_of(config, key);
    if (!value || !is_number(*value)) continue;
    std::string number = std::to_string(value->as_double());
    number.erase(number.find_last_not_of('0') + 1);
    if (number.ends_with('.')) number.pop_back();
    read.proposed.push_back(std::string(key) + " " + number);
  }
}

}  // namespace

GenerationConfig read_generation_config(const formats::ModelDirectory& directory) {
  GenerationConfig read;
  if (const auto path = directory.find_file("generation_config.json")) {
    const JsonValue config =
        JsonValue::parse(text_of(*path), path->string(), formats::JsonRole::kData);
    note_choices(config, read);
    if (const auto stop = value_of(config, "eos_token_id")) {
      read.stop_tokens = tokens_of(*stop);
      return read;
    }
  }
  const JsonValue config = JsonValue::parse(
      directory.config_text(), directory.config_path().string(), formats::JsonRole::kData,
      {.bytes_max = 64u << 20, .depth_max = 64, .values_max = 1u << 22});
  if (const auto stop = value_of(config, "eos_token_id")) read.stop_tokens = tokens_of(*stop);
  return read;
}

}  // namespace strata::tool
