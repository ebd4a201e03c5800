#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <utility>

#include "formats/quote.h"
#include "formats/safetensors_header.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"

namespace strata::formats {

/// A file being written from its first byte on.
class SafetensorsWriter::File {
 public:
  explicit File(std::filesystem::path path)
      : path_(std::move(path)),
        descriptor_(
            ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) throw system_error("create", path_.string(), errno);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        throw system_error("write", path_.string(), errno,
                           std::to_string(bytes.size()) + " bytes were still to be written");
      }
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

  void sync_and_close() {
    if (::fsync(descriptor_) != 0) throw system_error("sync", path_.string(), errno);
    if (::close(std::exchange(descriptor_, -1)) != 0) {
      throw system_error("close", path_.string(), errno);
    }
  }

 private:
  std::filesystem::path path_;
  int descriptor_;
};

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

std::array<std::byte, kLengthBytes> little_endian(std::uint64_t value) {
  std::array<std::byte, kLengthBytes> bytes{};
  for (std::size_t i = 0; i < kLengthBytes; ++i) bytes[i] = std::byte(value >> (8 * i) & 0xff);
  return bytes;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorInfo> tensors,
                                     const SafetensorsMetadata& metadata)
    : tensors_(std::move(tensors)) {
  const std::uint64_t data_bytes = lay_out(tensors_);
  const std::string header = format_safetensors_header(tensors_, metadata);
  if (header.size() > kHeaderBytesMax) {
    throw UsageError(path.string() + ": the header would be " + std::to_string(header.size()) +
                     " bytes, more than the format's 100 MB");
  }
  file_ = std::make_unique<File>(path);
  file_->write(little_endian(header.size()));
  file_->write(std::as_bytes(std::span(header)));
  position_ = kLengthBytes + header.size();
  end_ = position_ + data_bytes;
  for (TensorInfo& tensor : tensors_) tensor.offset += position_;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > end_ - position_) {
    throw UsageError(file_->path().string() + ": " + std::to_string(bytes.size()) +
                     " bytes appended, only " + std::to_string(end_ - position_) +
                     " of the declared tensors are left");
  }
  file_->write(bytes);
  position_ += bytes.size();
}

void SafetensorsWriter::finish() {
  if (position_ != end_) {
    std::string_view name;
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.offset <= position_ && position_ < tensor.offset + tensor.bytes) {
        name = tensor.name;
      }
    }
    throw UsageError(file_->path().string() + ": " + std::to_string(end_ - position_) +
                     " bytes are missing, from tensor " + quote(name) + " on");
  }
  file_->sync_and_close();
}

}  // namespace strata::formats
