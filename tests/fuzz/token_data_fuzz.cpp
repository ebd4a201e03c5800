#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "strata/base/error.h"
#include "strata/formats/token_data.h"

/// A token file is refused with DataError, or every token of it is within the vocabulary.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() /
      ("strata_token_fuzz_" + std::to_string(::getpid()) + ".bin");
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  constexpr std::int64_t kVocabulary = 50257;
  try {
    const auto tokens = strata::formats::TokenData::from_file(path, kVocabulary);
    std::array<std::int64_t, 16> piece{};
    const auto first = std::span(piece).first(std::min<std::uint64_t>(16, tokens.size()));
    tokens.read(0, first);
    for (const std::int64_t id : first) {
      STRATA_CHECK(id >= 0 && id < kVocabulary, std::to_string(id));
    }
    tokens.check_all();
  } catch (const strata::DataError&) {
  }
  return 0;
}
