#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/zero3/checkpoint.h"

namespace strata {

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
  const auto manifest = formats::CheckpointManifest::read(directory / name);
  const formats::CheckpointHead& head = manifest.head();
  return CheckpointInfo{.tag = head.tag,
                        .path = manifest.directory(),
                        .step = head.step,
                        .micro_steps = head.micro_steps,
                        .world_size = head.world_size,
                        .program = head.program};
}

}  // namespace strata
