#include "formats/model_index.h"

#include "formats/file_location.h"
#include "formats/quote.h"

namespace strata::formats {

FilesOfIndex parse_model_index(std::string_view text, std::string name) {
  const auto root = JsonValue::parse(text, std::move(name), JsonRole::kData, kIndexLimits);
  const JsonValue weight_map = root.at("weight_map");
  FilesOfIndex files;
  for (const auto& member : weight_map.members()) {
    const std::string& file = member.value.as_string();
    if (!is_plain_file_name(file)) {
      member.value.fail(quote(file) + " is not the plain name of a file in the model's directory");
    }
    files[file].push_back(member);
  }
  if (files.empty()) weight_map.fail("names no tensor");
  return files;
}

}  // namespace strata::formats
