#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_manifest.h"
#include "support/temp_directory.h"

using namespace strata::formats;

namespace {

/// The checksum is right: whoever writes a hostile manifest works it out too.
std::string with_checksum(std::string_view rest) {
  Crc32 sum;
  sum.add(std::as_bytes(std::span(rest)));
  return "{\"manifest_crc32\": \"" + crc_text(sum.value()) + "\",\n" + std::string(rest);
}

}  // namespace

/// A manifest is refused with DataError, or names only files of its own directory and is written to
/// a text that means the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const strata::support::TempDirectory directory;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    directory.write(std::string(kManifestName), with_checksum(text));
    const auto manifest = CheckpointManifest::read(directory.path());
    const CheckpointHead& head = manifest.head();
    STRATA_CHECK(head.step >= 0 && head.micro_steps >= 0 && head.world_size >= 1, head.tag);
    for (const CheckpointFile& file : head.files) {
      const auto path = (std::filesystem::path("/checkpoint") / file.name).lexically_normal();
      STRATA_CHECK(path.parent_path() == "/checkpoint" && path.filename() == file.name, file.name);
      STRATA_CHECK(manifest.find(file.name) != nullptr, file.name);
    }
    directory.write(std::string(kManifestName), manifest_text(head, {}));
    const CheckpointHead again = CheckpointManifest::read(directory.path()).head();
    STRATA_CHECK(again.files == head.files && again.program == head.program, head.tag);
    STRATA_CHECK(again.tag == head.tag && again.step == head.step, head.tag);
    require_files(manifest);
  } catch (const strata::DataError&) {
  }
  return 0;
}
