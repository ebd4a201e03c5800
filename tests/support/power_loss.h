#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/file_fault.h"

namespace strata::support {

/// A directory on a disk that keeps what was synced, and of the rest what a number says: the calls
/// of a journal (file_fault.h) are replayed, the power fails, and what is left is written to a
/// directory of the real file system.
///
/// A file's bytes are kept when the file is synced, a name when its directory is. Of what is not
/// synced all is lost, or all is kept, or names up to one of them and any writes, or any of both:
/// in any order, and of a write any of its sectors of 512 bytes. A rename happens or does not. It
/// is the least that POSIX promises, and more than most file systems do to their users.
class PowerLoss {
 public:
  /// `root` is there, empty and durable. Paths of the journal are below it.
  explicit PowerLoss(std::string root);

  void replay(const FileCall& call);
  /// Writes to `directory`, which is empty, what is left under `root` when the power fails now.
  void fail(std::uint64_t seed, const std::filesystem::path& directory) const;

 private:
  /// Names of a directory and what they are, by number.
  using Names = std::map<std::string, std::size_t>;
  /// One change of names, as a whole: these are taken away, then those are given.
  struct Renaming {
    std::vector<std::string> gone;
    Names given;
  };
  struct Write {
    std::uint64_t offset;
    std::string bytes;
    std::uint64_t size;  // of the file at least, afterwards
  };
  /// A file or directory.
  struct Node {
    bool is_directory = false;
    std::string bytes = {}, synced_bytes = {};
    std::vector<Write> writes = {};  // since it was synced
    Names names = {}, synced_names = {};
    std::vector<Renaming> renamings = {};
  };
  enum class Kept { kNothing, kAll, kInOrder, kAny };

  [[nodiscard]] std::size_t find(const std::string& path) const;
  [[nodiscard]] Node& parent_of(const std::string& path);
  void make(const std::string& path, bool is_directory);
  void rename(Node& directory, Renaming renaming);
  void write(const std::string& path, Write write);
  static void apply(const Renaming& renaming, Names& names);
  static void apply(const Write& write, std::string& bytes);
  void write_out(const Node& node, Kept kept, std::mt19937_64& random,
                 const std::filesystem::path& directory) const;
  static std::string bytes_left(const Node& node, Kept kept, std::mt19937_64& random);
  static Names names_left(const Node& node, Kept kept, std::mt19937_64& random);

  std::string root_;
  std::vector<Node> nodes_;
};

}  // namespace strata::support
