#include <cstdio>

#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/zero3/checkpoint.h"
#include "zero3/checkpoint/checkpoint_facts.h"

namespace strata {

std::string checkpoint_tag(std::int64_t step) {
  char text[40];
  std::snprintf(text, sizeof text, "step_%08lld", static_cast<long long>(step));
  return text;
}

std::optional<CheckpointInfo> find_checkpoint(const std::filesystem::path& directory,
                                              std::string_view tag) {
  std::string name(tag);
  if (tag.empty()) {
    std::optional<std::string> latest = formats::latest_tag(directory);
    if (!latest) return std::nullopt;
    name = *std::move(latest);
  } else {
    formats::check_tag(tag);
  }
  return zero3::info_of(formats::CheckpointManifest::read(directory / name));
}

}  // namespace strata
