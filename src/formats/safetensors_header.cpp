#include "formats/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "formats/quote.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/json.h"

namespace strata::formats {
namespace {

constexpr JsonLimits kHeaderLimits = {
    .bytes_max = kHeaderBytesMax, .depth_max = 8, .values_max = 4'000'000};

SafetensorsMetadata read_metadata(const JsonValue& value) {
  SafetensorsMetadata metadata;
  for (const auto& [key, text] : value.members()) metadata.emplace(key, text.as_string());
  return metadata;
}

std::vector<std::int64_t> read_shape(const JsonValue& value) {
  std::vector<std::int64_t> shape;
  for (const JsonValue& size : value.elements()) {
    const std::uint64_t elements = size.as_uint64();
    if (elements > std::uint64_t{INT64_MAX}) size.fail("too large for a dimension");
    shape.push_back(static_cast<std::int64_t>(elements));
  }
  return shape;
}

DType read_dtype(const JsonValue& value) {
  const auto dtype = dtype_from_name(value.as_string());
  if (!dtype) value.fail("unknown dtype " + quote(value.as_string()));
  return *dtype;
}

/// A tensor with `offset` still counted from the begin of the data.
TensorInfo read_tensor(std::string_view name, const JsonValue& entry) {
  for (const auto& [key, value] : entry.members()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      value.fail("unknown key; a tensor has dtype, shape and data_offsets");
    }
  }
  TensorInfo tensor{.name = std::string(name),
                    .dtype = read_dtype(entry.at("dtype")),
                    .shape = read_shape(entry.at("shape"))};
  const JsonValue offsets = entry.at("data_offsets");
  const auto bounds = offsets.elements();
  if (bounds.size() != 2) {
    offsets.fail("expected [begin, end], found " + std::to_string(bounds.size()) + " numbers");
  }
  const std::uint64_t begin = bounds[0].as_uint64();
  const std::uint64_t end = bounds[1].as_uint64();
  if (end < begin) {
    offsets.fail("ends at " + std::to_string(end) + ", before it begins at " +
                 std::to_string(begin));
  }
  tensor.offset = begin;
  tensor.bytes = end - begin;

  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) {
    entry.fail("the size of " + tensor.description() + " is beyond 2^63 or not whole bytes");
  }
  if (*bytes != tensor.bytes) {
    offsets.fail(tensor.description() + " is " + std::to_string(*bytes) + " bytes, data_offsets " +
                 "span " + std::to_string(tensor.bytes));
  }
  return tensor;
}

/// Tensors must lie side by side from the first byte of the data to the last: no hole can hide
/// another format's content, no byte belongs to two tensors.
void check_places(const std::vector<TensorInfo>& tensors, const std::string& name,
                  std::uint64_t data_bytes) {
  std::uint64_t end = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset != end) {
      const std::string_view what = tensor.offset > end ? "a hole" : "an overlap";
      throw DataError(name + ": tensor " + quote(tensor.name) + " begins at byte " +
                      std::to_string(tensor.offset) + " of the data, the one before ends at " +
                      std::to_string(end) + ": " + std::string(what));
    }
    end += tensor.bytes;
    if (end > data_bytes) {
      throw DataError(name + ": tensor " + quote(tensor.name) + " ends at byte " +
                      std::to_string(end) + " of the data, the file has only " +
                      std::to_string(data_bytes) + "; it is truncated or its header lies");
    }
  }
  if (end != data_bytes) {
    throw DataError(name + ": " + std::to_string(data_bytes - end) +
                    " bytes after the last tensor belong to none");
  }
}

std::string dump(const nlohmann::ordered_json& json) {
  try {
    return json.dump();
  } catch (const nlohmann::json::exception&) {
    throw UsageError("a tensor name or metadata text is not UTF-8: no safetensors header holds it");
  }
}

}  // namespace

std::optional<std::uint64_t> tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape) {
  using Wide = unsigned __int128;
  constexpr Wide kBitsMax = (Wide{1} << 63) * 8;
  Wide bits = bits_of(dtype);
  for (const std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    bits *= static_cast<Wide>(size);
    if (bits > kBitsMax) return std::nullopt;
  }
  if (bits % 8 != 0 || bits / 8 > INT64_MAX) return std::nullopt;
  return static_cast<std::uint64_t>(bits / 8);
}

std::uint64_t TensorInfo::elements() const {
  return std::accumulate(
      shape.begin(), shape.end(), std::uint64_t{1},
      [](std::uint64_t product, std::int64_t size) { return product * std::uint64_t(size); });
}

std::string TensorInfo::description() const {
  std::string text = std::string(name_of(dtype)) + " [";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

SafetensorsHeader parse_safetensors_header(std::string_view text, std::string name,
                                           std::uint64_t file_bytes) {
  if (!text.starts_with('{')) {
    throw DataError(name + ": the header does not begin with '{': not a safetensors file");
  }
  const JsonValue root = JsonValue::parse(text, name, JsonRole::kData, kHeaderLimits);
  SafetensorsHeader header;
  for (const auto& [key, value] : root.members()) {
    if (key == kMetadataKey) {
      header.metadata = read_metadata(value);
    } else {
      header.tensors.push_back(read_tensor(key, value));
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              // An empty tensor comes before the one that begins at the same byte.
              return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
            });
  const std::uint64_t data_begin = kLengthBytes + text.size();
  check_places(header.tensors, name, file_bytes - data_begin);
  for (TensorInfo& tensor : header.tensors) tensor.offset += data_begin;
  return header;
}

std::string format_safetensors_header(const std::vector<TensorInfo>& tensors,
                                      const SafetensorsMetadata& metadata) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  if (!metadata.empty()) root[std::string(kMetadataKey)] = metadata;
  for (const TensorInfo& tensor : tensors) {
    root[tensor.name] = {{"dtype", name_of(tensor.dtype)},
                         {"shape", tensor.shape},
                         {"data_offsets", {tensor.offset, tensor.offset + tensor.bytes}}};
  }
  std::string text = dump(root);
  text.resize(round_up(text.size(), kLengthBytes), ' ');
  return text;
}

}  // namespace strata::formats
