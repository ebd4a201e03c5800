#include "strata/formats/read_floats.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "formats/float_bits.h"
#include "formats/quote.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

/// Reads numbers of 16 bits. `widen` is a type of its own for each format, so that the compiler
/// widens many at once.
template <class Widen>
void read_short_floats(const SafetensorsFile& file, const TensorInfo& tensor, std::uint64_t begin,
                       std::span<float> out, Widen widen) {
  std::array<std::uint16_t, 1 << 15> piece;
  while (!out.empty()) {
    const auto bits = std::span(piece).first(std::min(piece.size(), out.size()));
    file.read(tensor, begin * sizeof(std::uint16_t), std::as_writable_bytes(bits));
    std::transform(bits.begin(), bits.end(), out.begin(), widen);
    begin += bits.size();
    out = out.subspan(bits.size());
  }
}

}  // namespace

void read_f32(const SafetensorsFile& file, const TensorInfo& tensor, std::uint64_t begin,
              std::span<float> out) {
  const auto where = [&] {
    return file.path().string() + ": tensor " + quote(tensor.name) + " is " + tensor.description();
  };
  // Checked in elements: a product with the element's size could wrap around.
  if (begin > tensor.elements() || out.size() > tensor.elements() - begin) {
    throw UsageError(where() + "; asked for " + std::to_string(out.size()) + " elements from " +
                     std::to_string(begin));
  }
  if (tensor.dtype == DType::kF32) {
    file.read(tensor, begin * sizeof(float), std::as_writable_bytes(out));
    return;
  }
  if (tensor.dtype != DType::kF16 && tensor.dtype != DType::kBF16) {
    throw DataError(where() + "; only F32, F16 and BF16 are read as weights");
  }
  if (tensor.dtype == DType::kF16) {
    read_short_floats(file, tensor, begin, out, [](auto bits) { return float_from_f16(bits); });
  } else {
    read_short_floats(file, tensor, begin, out, [](auto bits) { return float_from_bf16(bits); });
  }
}

}  // namespace strata::formats
