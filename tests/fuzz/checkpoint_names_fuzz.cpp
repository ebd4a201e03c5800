#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_directory.h"
#include "support/temp_directory.h"

using namespace strata::formats;

namespace {

bool is_accepted(std::string_view tag) {
  try {
    check_tag(tag);
    return true;
  } catch (const strata::ConfigError&) {
    return false;
  }
}

}  // namespace

/// What `latest` says is refused with DataError, or is a tag: the name of a folder beside it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const strata::support::TempDirectory directory;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (is_accepted(text)) {
    const auto path = (std::filesystem::path("/run") / text).lexically_normal();
    STRATA_CHECK(path.parent_path() == "/run" && path.filename() == text, std::string(text));
    STRATA_CHECK(!text.starts_with('.') && text != "latest", std::string(text));
  }
  directory.write("latest", text);
  try {
    const auto tag = latest_tag(directory.path());
    STRATA_CHECK(tag && is_accepted(*tag), std::string(text));
    STRATA_CHECK(*tag == text || *tag + "\n" == text, *tag);
  } catch (const strata::DataError&) {
    STRATA_CHECK(!is_accepted(text), std::string(text));
  }
  return 0;
}
