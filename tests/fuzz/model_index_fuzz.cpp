#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "formats/model_index.h"
#include "strata/base/error.h"

/// An index is refused with DataError, or names only files of its own directory.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (const auto& [file, tensors] : strata::formats::parse_model_index(text, "fuzz.json")) {
      const auto path = (std::filesystem::path("/model") / file).lexically_normal();
      STRATA_CHECK(path.parent_path() == "/model" && path.filename() == file, file);
      STRATA_CHECK(!tensors.empty(), file);
    }
  } catch (const strata::DataError&) {
  }
  return 0;
}
