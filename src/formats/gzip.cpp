#include "formats/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::formats {
namespace {

constexpr int kWindowBits = 15 + 16;  // zlib's largest window, with gzip's header and trailer
constexpr int kMemoryLevel = 8;
constexpr std::size_t kPieceBytes = 1u << 16;

/// zlib counts its input in 32 bits.
std::string_view leading_piece(std::string_view text) {
  return text.substr(0, std::numeric_limits<uInt>::max());
}

void give_input(z_stream& stream, std::string_view piece) {
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
  stream.avail_in = static_cast<uInt>(piece.size());
}

}  // namespace

struct GzipText::Stream {
  z_stream zlib{};

  Stream() {
    const int code = deflateInit2(&zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits,
                                  kMemoryLevel, Z_DEFAULT_STRATEGY);
    STRATA_CHECK(code == Z_OK, "deflateInit2: " + std::to_string(code));
  }
  ~Stream() { deflateEnd(&zlib); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

GzipText::GzipText() : stream_(std::make_unique<Stream>()) {}
GzipText::~GzipText() = default;

void GzipText::add(std::string_view text) {
  while (!text.empty()) {
    const std::string_view piece = leading_piece(text);
    text.remove_prefix(piece.size());
    deflate_all(piece, /*is_last=*/false);
  }
}

std::string GzipText::finish() {
  deflate_all({}, /*is_last=*/true);
  return std::move(compressed_);
}

void GzipText::deflate_all(std::string_view text, bool is_last) {
  z_stream& zlib = stream_->zlib;
  give_input(zlib, text);
  std::array<char, kPieceBytes> piece;
  int code = Z_OK;
  do {
    zlib.next_out = reinterpret_cast<Bytef*>(piece.data());
    zlib.avail_out = static_cast<uInt>(piece.size());
    code = deflate(&zlib, is_last ? Z_FINISH : Z_NO_FLUSH);
    STRATA_CHECK(code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR, std::to_string(code));
    compressed_.append(piece.data(), piece.size() - zlib.avail_out);
  } while (is_last ? code != Z_STREAM_END : zlib.avail_out == 0);
}

std::string gunzip(std::string_view content, const std::string& name, std::size_t bytes_max) {
  struct Inflation {
    z_stream zlib{};
    Inflation() { STRATA_CHECK(inflateInit2(&zlib, kWindowBits) == Z_OK, "inflateInit2"); }
    ~Inflation() { inflateEnd(&zlib); }
  } inflation;
  z_stream& zlib = inflation.zlib;
  if (content.size() > std::numeric_limits<uInt>::max()) {
    throw DataError(name + ": a gzip file of " + format_bytes(content.size()) +
                    " is none that was written here; name another file");
  }
  give_input(zlib, content);
  std::string text;
  std::array<char, kPieceBytes> piece;
  int code = Z_OK;
  while (code != Z_STREAM_END) {
    zlib.next_out = reinterpret_cast<Bytef*>(piece.data());
    zlib.avail_out = static_cast<uInt>(piece.size());
    code = inflate(&zlib, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END) {
      throw DataError(name + ": is no whole gzip file (" +
                      (zlib.msg != nullptr ? zlib.msg : "it ends early") +
                      "); write or copy it again");
    }
    text.append(piece.data(), piece.size() - zlib.avail_out);
    if (text.size() > bytes_max) {
      throw DataError(name + ": unpacks to more than " + format_bytes(bytes_max) +
                      ", which none that was written here does; name another file");
    }
  }
  if (zlib.avail_in > 0) {
    throw DataError(name + ": goes on after the end of its gzip content; write or copy it again");
  }
  return text;
}

}  // namespace strata::formats
