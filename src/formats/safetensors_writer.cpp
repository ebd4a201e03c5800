#include <set>
#include <utility>

#include "formats/quote.h"
#include "formats/safetensors_header.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"
#include "strata/formats/writable_file.h"

namespace strata::formats {

namespace {

/// Puts the tensors side by side; returns where the last one ends.
std::uint64_t lay_out(std::vector<TensorInfo>& tensors) {
  std::set<std::string_view> names;
  std::uint64_t end = 0;
  for (TensorInfo& tensor : tensors) {
    if (tensor.name == kMetadataKey) {
      throw UsageError(quote(tensor.name) + " is not a name for a tensor: the format keeps it");
    }
    const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (!bytes || *bytes > std::uint64_t{INT64_MAX} - end) {
      throw UsageError("tensor " + quote(tensor.name) + ": no file holds " + tensor.description());
    }
    if (!names.insert(tensor.name).second) {
      throw UsageError("tensor " + quote(tensor.name) + " is declared twice");
    }
    tensor.offset = end;
    tensor.bytes = *bytes;
    end += *bytes;
  }
  return end;
}

std::string little_endian(std::uint64_t value) {
  std::string bytes;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    bytes += static_cast<char>(static_cast<unsigned char>(value >> (8 * i) & 0xff));
  }
  return bytes;
}

}  // namespace

SafetensorsLayout lay_out_safetensors(std::vector<TensorInfo> tensors,
                                      const SafetensorsMetadata& metadata,
                                      const std::string& name) {
  SafetensorsLayout layout{.head = {}, .tensors = std::move(tensors)};
  const std::uint64_t data_bytes = lay_out(layout.tensors);
  const std::string header = format_safetensors_header(layout.tensors, metadata);
  if (header.size() > kHeaderBytesMax) {
    throw UsageError(name + ": the header would be " + std::to_string(header.size()) +
                     " bytes, more than the format's 100 MB");
  }
  layout.head = little_endian(header.size()) + header;
  layout.bytes = layout.head.size() + data_bytes;
  for (TensorInfo& tensor : layout.tensors) tensor.offset += layout.head.size();
  return layout;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorInfo> tensors,
                                     const SafetensorsMetadata& metadata)
    : layout_(lay_out_safetensors(std::move(tensors), metadata, path.string())),
      file_(std::make_unique<WritableFile>(WritableFile::create(path))) {
  file_->write(0, std::as_bytes(std::span(layout_.head)));
  position_ = layout_.head.size();
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > layout_.bytes - position_) {
    throw UsageError(file_->path().string() + ": " + std::to_string(bytes.size()) +
                     " bytes appended, only " + std::to_string(layout_.bytes - position_) +
                     " of the declared tensors are left");
  }
  file_->write(position_, bytes);
  position_ += bytes.size();
}

void SafetensorsWriter::finish() {
  if (position_ != layout_.bytes) {
    std::string_view name;
    for (const TensorInfo& tensor : layout_.tensors) {
      if (tensor.offset <= position_ && position_ < tensor.offset + tensor.bytes) {
        name = tensor.name;
      }
    }
    throw UsageError(file_->path().string() + ": " + std::to_string(layout_.bytes - position_) +
                     " bytes are missing, from tensor " + quote(name) + " on");
  }
  file_->sync_and_close();
}

}  // namespace strata::formats
