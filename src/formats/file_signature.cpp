#include "formats/file_signature.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace strata::formats {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kUnpack = "unpack it and name what comes out";
constexpr std::string_view kExtract =
    "write the text out of it into a file, or token ids with numpy.save";
constexpr std::string_view kNoData = "name the file of text or of token ids";

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  FileKind kind;
};

constexpr std::array kSignatures = {
    Signature{0, "\x1f\x8b\x08"sv, {"gzip data", kUnpack}},
    Signature{0,
              "PK\x03\x04"sv,
              {"a zip archive (.zip, .npz, .docx, PyTorch's .pt)",
               "unpack it and name a file of it; token ids of .npz or .pt go into a file with "
               "numpy.save"}},
    Signature{0, "PK\x05\x06"sv, {"an empty zip archive", kNoData}},
    Signature{0, "(\xb5/\xfd"sv, {"Zstandard data", kUnpack}},
    Signature{0,
              "\xfd"
              "7zXZ\0"sv,
              {"xz data", kUnpack}},
    Signature{4, "1AY&SY"sv, {"bzip2 data", kUnpack}},
    Signature{0, "\x04\"M\x18"sv, {"LZ4 data", kUnpack}},
    Signature{0, "7z\xbc\xaf'\x1c"sv, {"a 7-Zip archive", kUnpack}},
    Signature{0, "Rar!\x1a\x07"sv, {"a RAR archive", kUnpack}},
    Signature{257, "ustar"sv, {"a tar archive", kUnpack}},
    Signature{0,
              "\x80\x02\x8a\nl\xfc\x9c"sv,
              {"an old file of PyTorch's torch.save",
               "load it in Python and write the token ids with numpy.save"}},
    Signature{0, "PAR1"sv, {"a Parquet file", kExtract}},
    Signature{0, "ARROW1\0\0"sv, {"an Arrow file", kExtract}},
    Signature{0, "\xff\xff\xff\xff\x10\0\0\0"sv, {"an Arrow stream", kExtract}},
    Signature{0, "Obj\x01"sv, {"an Avro file", kExtract}},
    Signature{0, "\x89HDF\r\n\x1a\n"sv, {"an HDF5 file", kExtract}},
    Signature{0, "SQLite format 3\0"sv, {"an SQLite database", kExtract}},
    Signature{0, "%PDF-"sv, {"a PDF document", "write its text into a file (pdftotext)"}},
    Signature{0, "{\\rtf"sv, {"an RTF document", "save it as plain text"}},
    Signature{0,
              "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv,
              {"an old Office document", "save it as plain text"}},
    Signature{0, "\x89PNG\r\n\x1a\n"sv, {"a PNG picture", kNoData}},
    Signature{0, "\xff\xd8\xff\xe0"sv, {"a JPEG picture", kNoData}},
    Signature{0, "\xff\xd8\xff\xe1"sv, {"a JPEG picture", kNoData}},
    Signature{0, "GIF87a"sv, {"a GIF picture", kNoData}},
    Signature{0, "GIF89a"sv, {"a GIF picture", kNoData}},
    Signature{0,
              "\x7f"
              "ELF"sv,
              {"a program", kNoData}},
    Signature{0, "GGUF\x01\0\0\0"sv, {"a GGUF model", kNoData}},
    Signature{0, "GGUF\x02\0\0\0"sv, {"a GGUF model", kNoData}},
    Signature{0, "GGUF\x03\0\0\0"sv, {"a GGUF model", kNoData}},
    Signature{
        0, "MMIDIDX\0\0"sv, {"the index of a Megatron data set", "name the .bin file beside it"}},
};

constexpr FileKind kPickle = {"a Python pickle",
                              "load it in Python and write the token ids with numpy.save"};
constexpr FileKind kSafetensors = {"a safetensors file, which holds weights",
                                   "name the model with --model and a file of text or of token ids "
                                   "here"};

bool has_at(std::span<const std::byte> head, std::size_t offset, std::string_view bytes) {
  return head.size() >= offset + bytes.size() &&
         std::memcmp(head.data() + offset, bytes.data(), bytes.size()) == 0;
}

/// Protocols 2 to 5 begin with their number, and all end with a full stop.
bool is_pickle(std::span<const std::byte> head, std::byte last_byte) {
  constexpr std::string_view kFirstOperations = "\x95}](c)X\x8cK";
  if (head.size() < 3 || head[0] != std::byte{0x80} || last_byte != std::byte{'.'}) return false;
  const auto protocol = std::to_integer<int>(head[1]);
  return protocol >= 2 && protocol <= 5 &&
         kFirstOperations.find(static_cast<char>(head[2])) != std::string_view::npos;
}

/// The length of a JSON header, then the header.
bool is_safetensors(std::span<const std::byte> head) {
  std::uint64_t length = 0;
  if (head.size() < sizeof length + 2) return false;
  std::memcpy(&length, head.data(), sizeof length);
  return length >= 2 && length < 100'000'000 &&
         (has_at(head, sizeof length, "{\"") || has_at(head, sizeof length, "{}"));
}

}  // namespace

std::optional<FileKind> recognise_file(std::span<const std::byte> head, std::byte last_byte) {
  const auto known =
      std::find_if(kSignatures.begin(), kSignatures.end(), [head](const Signature& signature) {
        return has_at(head, signature.offset, signature.bytes);
      });
  if (known != kSignatures.end()) return known->kind;
  if (is_pickle(head, last_byte)) return kPickle;
  if (is_safetensors(head)) return kSafetensors;
  return std::nullopt;
}

std::optional<FileKind> recognise_text(std::string_view head) {
  if (head.starts_with("version https://git-lfs.github.com/spec/")) {
    return FileKind{"a Git LFS pointer", "fetch the file that it stands for (git lfs pull)"};
  }
  if (head.starts_with("%!PS-")) {
    return FileKind{"a PostScript document", "write its text into a file (ps2ascii)"};
  }
  return std::nullopt;
}

}  // namespace strata::formats
