#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace strata::tool {

/// A token, and whether it bears loss where it is to be predicted.
struct MarkedToken {
  std::uint32_t id = 0;
  bool bears = false;
};

/// Documents of tokens in a file that is read in pieces: memory has a number for each document.
///
/// The file: a header (DocumentWriter's), a uint32 for every token (its id times 2, plus 1 where it
/// bears loss), and the uint64 place of every document's end. Little endian.
class DocumentStore {
 public:
  /// Opens a whole file of `key`, and reads it once; nullptr where there is none, or another, or a
  /// damaged one. The descriptor stays open; the file may be removed.
  [[nodiscard]] static std::shared_ptr<const DocumentStore> open(const std::filesystem::path& path,
                                                                 std::uint64_t key);
  DocumentStore(const DocumentStore&) = delete;
  DocumentStore& operator=(const DocumentStore&) = delete;
  ~DocumentStore();

  [[nodiscard]] std::uint64_t size() const { return ends_.size(); }
  /// Tokens of a document.
  [[nodiscard]] std::uint64_t length(std::uint64_t document) const;
  /// Reads tokens of a document from `begin` on. Throws IoError.
  void read(std::uint64_t document, std::uint64_t begin, std::span<MarkedToken> out) const;
  /// A checksum of all tokens and marks.
  [[nodiscard]] std::uint64_t checksum() const { return checksum_; }
  /// The largest id; 0 where there is none.
  [[nodiscard]] std::uint32_t largest_id() const { return largest_id_; }

 private:
  explicit DocumentStore(int descriptor) : descriptor_(descriptor) {}
  [[nodiscard]] bool load(std::uint64_t key);

  int descriptor_;
  std::vector<std::uint64_t> ends_;
  std::uint64_t checksum_ = 0;
  std::uint32_t largest_id_ = 0;
};

/// Writes the file of a DocumentStore.
class DocumentWriter {
 public:
  /// Makes the file, or an empty one of one that is there. Throws IoError.
  explicit DocumentWriter(const std::filesystem::path& path);
  DocumentWriter(const DocumentWriter&) = delete;
  DocumentWriter& operator=(const DocumentWriter&) = delete;
  ~DocumentWriter();

  /// Appends a document. Throws IoError.
  void add(std::span<const MarkedToken> tokens);
  /// Writes the rest, and makes the file last. Throws IoError.
  void finish(std::uint64_t key);

 private:
  void write(const void* bytes, std::size_t count);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t tokens_ = 0;
  std::vector<std::uint64_t> ends_;
  std::vector<std::uint32_t> waiting_;
  struct Hash;
  std::unique_ptr<Hash> hash_;
};

}  // namespace strata::tool
