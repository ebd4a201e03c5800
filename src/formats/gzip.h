#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace strata::formats {

/// Compresses a text as it comes, so that only its compressed form is in memory.
class GzipText {
 public:
  GzipText();
  ~GzipText();
  GzipText(const GzipText&) = delete;
  GzipText& operator=(const GzipText&) = delete;

  void add(std::string_view text);
  /// The content of a .gz file. Call once, at the end.
  [[nodiscard]] std::string finish();

 private:
  struct Stream;
  void deflate_all(std::string_view text, bool is_last);

  std::unique_ptr<Stream> stream_;
  std::string compressed_;
};

/// The text of a .gz file's content. `name` begins every message. Throws DataError for content that
/// is damaged, cut short or followed by something else, and for a text of more than `bytes_max`.
[[nodiscard]] std::string gunzip(std::string_view content, const std::string& name,
                                 std::size_t bytes_max);

}  // namespace strata::formats
