#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace strata::formats {

/// What a file is that is neither text nor bare token ids, by the bytes it begins with.
struct FileKind {
  std::string_view name;    ///< "gzip data"
  std::string_view remedy;  ///< what makes training data of it
};

/// How much of a file's beginning `recognise_file` looks at.
inline constexpr std::size_t kSignatureBytes = 512;

/// The kind of a file that begins with `head` (kSignatureBytes of it, or all) and ends with
/// `last_byte`; nullopt for one that is not known. Only signatures that token ids and text do not
/// begin with by chance are looked for.
[[nodiscard]] std::optional<FileKind> recognise_file(std::span<const std::byte> head,
                                                     std::byte last_byte);

/// The same for text, whose words alone say what it is (a Git LFS pointer).
[[nodiscard]] std::optional<FileKind> recognise_text(std::string_view head);

}  // namespace strata::formats
