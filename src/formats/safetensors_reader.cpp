#include <array>
#include <cstring>

#include "formats/quote.h"
#include "formats/regular_file.h"
#include "formats/safetensors_header.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"

namespace strata::formats {
namespace {

/// The JSON between the length and the data, its length checked before memory is taken.
std::string read_header_text(const RegularFile& file) {
  const std::string name = file.path().string();
  if (file.size() < kLengthBytes) {
    throw DataError(name + ": " + std::to_string(file.size()) +
                    " bytes are too few for a safetensors file");
  }
  std::array<std::byte, kLengthBytes> bytes{};
  file.read(0, bytes);
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {  // little endian
    length = length << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  if (length > kHeaderBytesMax) {
    throw DataError(name + ": a header of " + std::to_string(length) +
                    " bytes, more than the format's 100 MB; not a safetensors file, or hostile");
  }
  if (length > file.size() - kLengthBytes) {
    throw DataError(name + ": a header of " + std::to_string(length) + " bytes in a file of " +
                    std::to_string(file.size()) + "; it is truncated");
  }
  std::string text(length, '\0');
  file.read(kLengthBytes, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_unique<RegularFile>(path, RegularFile::Links::kRefuse)) {
  auto header = parse_safetensors_header(read_header_text(*file_), path.string(), file_->size());
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

const std::filesystem::path& SafetensorsFile::path() const { return file_->path(); }

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsFile::read(const TensorInfo& tensor, std::uint64_t offset,
                           std::span<std::byte> out) const {
  if (offset > tensor.bytes || out.size() > tensor.bytes - offset) {
    throw UsageError(path().string() + ": tensor " + quote(tensor.name) + " has " +
                     std::to_string(tensor.bytes) + " bytes; asked for " +
                     std::to_string(out.size()) + " from byte " + std::to_string(offset));
  }
  file_->read(tensor.offset + offset, out);
}

}  // namespace strata::formats
