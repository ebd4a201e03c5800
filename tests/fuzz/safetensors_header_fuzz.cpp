#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "formats/safetensors_header.h"
#include "strata/base/error.h"

using namespace strata::formats;

/// Of eight bytes that are the size of the data and a header, the header is refused with DataError,
/// or its tensors fill the data exactly and are written to a header that means the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t data_bytes = 0;
  if (size < sizeof data_bytes) return 0;
  std::memcpy(&data_bytes, data, sizeof data_bytes);
  data_bytes >>= 1;  // no file is longer than 2^63
  const std::string_view text(reinterpret_cast<const char*>(data) + 8, size - 8);
  const std::uint64_t data_begin = kLengthBytes + text.size();
  SafetensorsHeader header;
  try {
    header = parse_safetensors_header(text, "fuzz", data_begin + data_bytes);
  } catch (const strata::DataError&) {
    return 0;
  }
  std::uint64_t end = data_begin;
  for (TensorInfo& tensor : header.tensors) {
    STRATA_CHECK(tensor.offset == end, tensor.name);
    end += tensor.bytes;
    tensor.offset -= data_begin;
  }
  STRATA_CHECK(end == data_begin + data_bytes, std::to_string(end));

  const std::string written = format_safetensors_header(header.tensors, header.metadata);
  const auto again =
      parse_safetensors_header(written, "again", kLengthBytes + written.size() + data_bytes);
  STRATA_CHECK(again.tensors.size() == header.tensors.size(), written);
  STRATA_CHECK(again.metadata == header.metadata, written);
  return 0;
}
