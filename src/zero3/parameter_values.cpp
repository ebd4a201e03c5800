#include "zero3/parameter_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <sstream>

#include "strata/base/error.h"

namespace strata::zero3 {

namespace {

/// The smallest magnitude that becomes Inf in the weight's format.
float overflow_of(Precision precision) {
  switch (precision) {
    case Precision::kFp16: return 65520.0f;  // halfway between 65504 and the next power of two
    case Precision::kBf16: return std::bit_cast<float>(std::uint32_t{0x7F7F8000});
    case Precision::kFp32: break;
  }
  return std::bit_cast<float>(std::uint32_t{0x7F800000});
}

/// The bits of the largest magnitude: they order as magnitudes do, with Inf and NaN above all. No
/// branch, for the compiler to look at many at once.
std::int32_t largest_magnitude_bits(std::span<const float> values) {
  std::int32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF);
  }
  return largest;
}

}  // namespace

void check_magnitudes(const std::string& parameter, std::span<const float> values,
                      std::uint64_t first, Precision precision) {
  const float overflow = overflow_of(precision);
  if (largest_magnitude_bits(values) < std::bit_cast<std::int32_t>(overflow)) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::abs(values[i]) < overflow) continue;
    std::ostringstream message;
    message << "parameter '" << parameter << "' holds " << values[i] << " at element " << first + i;
    if (std::isfinite(values[i])) {
      message << ", which is beyond " << name_of(precision)
              << (precision == Precision::kFp16
                      ? " (65504); train in bf16 or fp32, or keep this parameter in fp32 "
                        "(strata.keep_fp32)"
                      : "; train in fp32");
    } else {
      message
          << ": nothing can be trained from that; give finite values (an initializer fills every "
             "element; a file may be damaged, or come from a run that diverged; a mask is a "
             "buffer)";
    }
    throw DataError(message.str());
  }
}

void check_bytes(const std::string& parameter, const torch::Tensor& values) {
  const auto count = static_cast<std::size_t>(values.numel());
  if (values.element_size() != 2 || values.storage_offset() != 0 || count == 0 ||
      values.storage().nbytes() != count * sizeof(float)) {
    return;
  }
  throw UsageError("parameter '" + parameter + "' was given the bytes of fp32 numbers as " +
                   toString(values.scalar_type()) +
                   " (torch::load does that when archive and module differ in type); load the "
                   "archive into a module in fp32, and give that one's parameters to "
                   "load_state_dict()");
}

namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

}  // namespace

void check_scalar_type(const std::string& parameter, torch::ScalarType type) {
  if (type == torch::kFloat32 || type == torch::kBFloat16 || type == torch::kFloat16) return;
  throw UsageError("parameter '" + parameter + "' is " + toString(type) +
                   ", and Strata's masters are fp32, which cannot hold that exactly; " +
                   (at::isFloatingType(type)
                        ? "convert the module first (module->to(torch::kFloat32))"
                        : "register it as a buffer, or as a parameter of a floating type"));
}

torch::Tensor masters_of(const std::string& parameter, const std::vector<std::int64_t>& shape,
                         const torch::Tensor& values) {
  if (!values.defined()) throw UsageError("parameter '" + parameter + "' was given no values");
  if (values.sizes() != at::IntArrayRef(shape)) {
    throw UsageError("parameter '" + parameter + "' has the shape " + shape_text(shape) +
                     " and was given values of the shape " + shape_text(values.sizes()) +
                     "; fill the tensor in place, or give one of its shape");
  }
  if (values.is_meta()) {
    throw UsageError("parameter '" + parameter +
                     "' is on the meta device; give ShardOptions::initializer to fill it");
  }
  check_scalar_type(parameter, values.scalar_type());
  return values.detach().cpu().to(torch::kFloat32).contiguous();
}

torch::Tensor checked_masters(const std::string& parameter, const std::vector<std::int64_t>& shape,
                              const torch::Tensor& values, Precision precision) {
  const torch::Tensor masters = masters_of(parameter, shape, values);
  check_magnitudes(parameter,
                   {masters.const_data_ptr<float>(), static_cast<std::size_t>(masters.numel())},
                   /*first=*/0, precision);
  return masters;
}

}  // namespace strata::zero3
