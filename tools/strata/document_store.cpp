#include "document_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is read as it lies");

constexpr std::array<char, 16> kMagic = {'s', 't', 'r', 'a', 't', 'a', ' ', 'd',
                                         'o', 'c', 'u', 'm', 'e', 'n', 't', '1'};
constexpr std::size_t kPieceTokens = 1 << 16;

struct Header {
  std::array<char, 16> magic;
  std::uint64_t key, documents, tokens, checksum;
};

bool read_whole(int descriptor, void* out, std::size_t bytes, std::uint64_t offset) {
  auto* at = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t count = ::pread(descriptor, at, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    at += count;
    offset += static_cast<std::uint64_t>(count);
    bytes -= static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace

struct DocumentWriter::Hash {
  XXH3_state_t* state = XXH3_createState();
  Hash() {
    if (state == nullptr) throw std::bad_alloc();
    XXH3_64bits_reset(state);
  }
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  ~Hash() { XXH3_freeState(state); }
};

// ---- reading
// -------------------------------------------------------------------------------------

std::shared_ptr<const DocumentStore> DocumentStore::open(const std::filesystem::path& path,
                                                         std::uint64_t key) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  std::shared_ptr<DocumentStore> store(new DocumentStore(descriptor));
  return store->load(key) ? store : nullptr;
}

DocumentStore::~DocumentStore() { ::close(descriptor_); }

bool DocumentStore::load(std::uint64_t key) {
  Header header{};
  struct stat facts {};
  if (::fstat(descriptor_, &facts) != 0 || !read_whole(descriptor_, &header, sizeof header, 0) ||
      header.magic != kMagic || header.key != key) {
    return false;
  }
  const auto bytes = static_cast<unsigned __int128>(sizeof header) +
                     static_cast<unsigned __int128>(header.tokens) * sizeof(std::uint32_t) +
                     static_cast<unsigned __int128>(header.documents) * sizeof(std::uint64_t);
  if (bytes != static_cast<unsigned __int128>(facts.st_size)) return false;
  XXH3_state_t* const raw = XXH3_createState();
  if (raw == nullptr) throw std::bad_alloc();
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(raw, &XXH3_freeState);
  XXH3_64bits_reset(raw);
  std::vector<std::uint32_t> piece;
  std::uint64_t offset = sizeof header;
  for (std::uint64_t left = header.tokens; left > 0; left -= piece.size()) {
    piece.resize(std::min<std::uint64_t>(left, kPieceTokens));
    const std::size_t piece_bytes = piece.size() * sizeof(std::uint32_t);
    if (!read_whole(descriptor_, piece.data(), piece_bytes, offset)) return false;
    XXH3_64bits_update(raw, piece.data(), piece_bytes);
    for (const std::uint32_t token : piece) largest_id_ = std::max(largest_id_, token >> 1);
    offset += piece_bytes;
  }
  ends_.resize(header.documents);
  const std::size_t ends_bytes = ends_.size() * sizeof(std::uint64_t);
  if (!read_whole(descriptor_, ends_.data(), ends_bytes, offset)) return false;
  XXH3_64bits_update(raw, ends_.data(), ends_bytes);
  checksum_ = header.checksum;
  return XXH3_64bits_digest(raw) == header.checksum && std::ranges::is_sorted(ends_) &&
         (ends_.empty() ? header.tokens == 0 : ends_.back() == header.tokens);
}

std::uint64_t DocumentStore::length(std::uint64_t document) const {
  return ends_[document] - (document == 0 ? 0 : ends_[document - 1]);
}

void DocumentStore::read(std::uint64_t document, std::uint64_t begin,
                         std::span<MarkedToken> out) const {
  STRATA_CHECK(document < size() && begin + out.size() <= length(document),
               std::to_string(document) + ", " + std::to_string(begin));
  std::vector<std::uint32_t> tokens(out.size());
  const std::uint64_t first = (document == 0 ? 0 : ends_[document - 1]) + begin;
  errno = EIO;
  if (!read_whole(descriptor_, tokens.data(), tokens.size() * sizeof(std::uint32_t),
                  sizeof(Header) + first * sizeof(std::uint32_t))) {
    throw system_error("read", "the tokens of document " + std::to_string(document), errno);
  }
  std::ranges::transform(tokens, out.begin(), [](std::uint32_t token) {
    return MarkedToken{.id = token >> 1, .bears = (token & 1) != 0};
  });
}

// ---- writing
// -------------------------------------------------------------------------------------

DocumentWriter::DocumentWriter(const std::filesystem::path& path)
    : path_(path), hash_(std::make_unique<Hash>()) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw system_error("create", path.string(), errno);
  const Header empty{};
  write(&empty, sizeof empty);
}

DocumentWriter::~DocumentWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void DocumentWriter::write(const void* bytes, std::size_t count) {
  const auto* at = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t done = ::write(descriptor_, at, count);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw system_error("write", path_.string(), errno);
    at += done;
    count -= static_cast<std::size_t>(done);
  }
}

void DocumentWriter::add(std::span<const MarkedToken> tokens) {
  for (const MarkedToken& token : tokens) {
    waiting_.push_back(token.id << 1 | static_cast<std::uint32_t>(token.bears));
  }
  tokens_ += tokens.size();
  ends_.push_back(tokens_);
  if (waiting_.size() < kPieceTokens) return;
  XXH3_64bits_update(hash_->state, waiting_.data(), waiting_.size() * sizeof(std::uint32_t));
  write(waiting_.data(), waiting_.size() * sizeof(std::uint32_t));
  waiting_.clear();
}

void DocumentWriter::finish(std::uint64_t key) {
  XXH3_64bits_update(hash_->state, waiting_.data(), waiting_.size() * sizeof(std::uint32_t));
  write(waiting_.data(), waiting_.size() * sizeof(std::uint32_t));
  XXH3_64bits_update(hash_->state, ends_.data(), ends_.size() * sizeof(std::uint64_t));
  write(ends_.data(), ends_.size() * sizeof(std::uint64_t));
  const Header header{.magic = kMagic,
                      .key = key,
                      .documents = ends_.size(),
                      .tokens = tokens_,
                      .checksum = XXH3_64bits_digest(hash_->state)};
  if (::pwrite(descriptor_, &header, sizeof header, 0) != sizeof header ||
      ::fsync(descriptor_) != 0) {
    throw system_error("write", path_.string(), errno);
  }
  ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace strata::tool
