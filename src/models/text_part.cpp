#include "models/text_part.h"

#include <algorithm>
#include <vector>

#include "models/config_json.h"
#include "strata/models/model_config.h"

namespace strata::models {

namespace {

using formats::JsonType;
using formats::JsonValue;
using Json = ConfigWriter::Json;

constexpr const char* kPart = "text_config";
constexpr const char* kTied = "tie_word_embeddings";

}  // namespace

bool has_text_part(const JsonValue& config) {
  const auto type = config.find("model_type"), part = config.find(kPart);
  if (!type || !type->is(JsonType::kString) || !part || !part->is(JsonType::kObject)) return false;
  const std::vector<std::string_view> known = ModelConfig::model_types();
  return std::find(known.begin(), known.end(), type->as_string()) == known.end();
}

bool has_text_part(std::string_view config_text, std::string_view where) {
  return has_text_part(parse_config(config_text, where));
}

std::string text_part(std::string_view config_text, std::string_view where) {
  const JsonValue whole = parse_config(config_text, where), inner = whole.at(kPart);
  require_plain_decoder(KeyReader(whole));
  if (!inner.find("model_type")) {
    inner.fail("has no \"model_type\", so that no one knows which language model it is");
  }
  Json part = Json::parse(config_text).at(kPart);
  const auto of_whole = whole.find(kTied), of_part = inner.find(kTied);
  if (of_whole && of_part && of_whole->as_bool() != of_part->as_bool()) {
    of_part->fail("differs from the one outside; leave the one that is meant");
  }
  if (of_whole) part[kTied] = of_whole->as_bool();
  return part.dump();
}

std::string with_text_part(std::string_view original, std::string_view part,
                           std::string_view dtype) {
  Json whole = Json::parse(original), changed = Json::parse(part);
  const Json& before = whole.at(kPart);
  if (whole.contains(kTied)) {
    whole[kTied] = changed.at(kTied);
    if (!before.contains(kTied)) changed.erase(kTied);
  } else if (changed.contains(kTied) && changed.value(kTied, true) != before.value(kTied, true)) {
    whole[kTied] = changed.at(kTied);  // which newer versions of transformers look at
  }
  for (const char* format : {"dtype", "torch_dtype"}) {
    if (!before.contains(format)) changed.erase(format);
  }
  whole[kPart] = std::move(changed);
  ConfigWriter out(whole.dump());
  out.set_dtype(dtype);
  return out.text();
}

}  // namespace strata::models
