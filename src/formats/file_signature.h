#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace strata::formats {

/// The kind of a file that is neither text nor bare token ids, told by its first bytes.
struct FileKind {
  std::string_view name;    ///< "gzip data"
  std::string_view remedy;  ///< how to make training data of it
};

/// Bytes of a file's beginning that `recognise_file` looks at.
inline constexpr std::size_t kSignatureBytes = 512;

/// The kind of a file that begins with `head` (kSignatureBytes of it, or all) and ends with
/// `last_byte`; nullopt for one that is not known. Only signatures that token ids and text do not
/// begin with by chance are looked for.
[[nodiscard]] std::optional<FileKind> recognise_file(std::span<const std::byte> head,
                                                     std::byte last_byte);

/// The kind of a text that only its words tell (a Git LFS pointer).
[[nodiscard]] std::optional<FileKind> recognise_text(std::string_view head);

}  // namespace strata::formats
