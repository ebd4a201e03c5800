#include "support/power_loss.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace strata::support {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSector = 512;

bool draw(std::mt19937_64& random) { return (random() & 1) != 0; }

std::string name_of(const std::string& path) { return fs::path(path).filename().string(); }

}  // namespace

PowerLoss::PowerLoss(std::string root) : root_(std::move(root)) {
  nodes_.push_back({.is_directory = true});
}

// ---- what is done ------------------------------------------------------------------------------

std::size_t PowerLoss::find(const std::string& path) const {
  std::size_t found = 0;
  for (const fs::path& name : fs::path(path).lexically_relative(root_)) {
    if (name == ".") continue;
    const Names& names = nodes_[found].names;
    const auto next = names.find(name.string());
    if (next == names.end()) throw std::logic_error("the journal does not make " + path);
    found = next->second;
  }
  return found;
}

PowerLoss::Node& PowerLoss::parent_of(const std::string& path) {
  return nodes_[find(fs::path(path).parent_path())];
}

void PowerLoss::rename(Node& directory, Renaming renaming) {
  apply(renaming, directory.names);
  directory.renamings.push_back(std::move(renaming));
}

void PowerLoss::make(const std::string& path, bool is_directory) {
  nodes_.push_back({.is_directory = is_directory});
  rename(parent_of(path), {{}, {{name_of(path), nodes_.size() - 1}}});
}

void PowerLoss::write(const std::string& path, Write write) {
  Node& file = nodes_[find(path)];
  apply(write, file.bytes);
  file.writes.push_back(std::move(write));
}

void PowerLoss::replay(const FileCall& call) {
  using Kind = FileCall::Kind;
  switch (call.kind) {
    case Kind::kMake: return make(call.path, false);
    case Kind::kMakeDirectory: return make(call.path, true);
    case Kind::kAllocate: return write(call.path, {0, {}, call.offset});
    case Kind::kWrite:
      return write(call.path, {call.offset, call.bytes, call.offset + call.bytes.size()});
    case Kind::kSync: {
      Node& node = nodes_[find(call.path)];
      node.synced_bytes = node.bytes;
      node.synced_names = node.names;
      node.writes.clear();
      node.renamings.clear();
      return;
    }
    case Kind::kRename:
    case Kind::kExchange: {
      const std::size_t from = find(call.path);
      if (fs::path(call.path).parent_path() != fs::path(call.to).parent_path()) {
        throw std::logic_error("a rename from one directory to another: " + call.path);
      }
      Renaming renaming{{name_of(call.path)}, {{name_of(call.to), from}}};
      if (call.kind == Kind::kExchange) renaming.given.emplace(name_of(call.path), find(call.to));
      return rename(parent_of(call.path), std::move(renaming));
    }
    case Kind::kRemove: return rename(parent_of(call.path), {{name_of(call.path)}, {}});
  }
}

void PowerLoss::apply(const Renaming& renaming, Names& names) {
  for (const std::string& name : renaming.gone) names.erase(name);
  for (const auto& [name, node] : renaming.given) names.insert_or_assign(name, node);
}

void PowerLoss::apply(const Write& write, std::string& bytes) {
  if (bytes.size() < write.size) bytes.resize(write.size);
  bytes.replace(write.offset, write.bytes.size(), write.bytes);
}

// ---- what is left ------------------------------------------------------------------------------

void PowerLoss::fail(std::uint64_t seed, const fs::path& directory) const {
  std::mt19937_64 random(seed);
  const auto kept = static_cast<Kept>(random() % 4);
  write_out(nodes_.front(), kept, random, directory);
}

std::string PowerLoss::bytes_left(const Node& node, Kept kept, std::mt19937_64& random) {
  std::string bytes = node.synced_bytes;
  for (const Write& write : node.writes) {
    if (kept == Kept::kNothing || (kept != Kept::kAll && draw(random))) continue;
    if (kept == Kept::kAll || write.bytes.empty() || draw(random)) {
      apply(write, bytes);
      continue;
    }
    for (std::size_t at = 0; at < write.bytes.size(); at += kSector) {
      if (draw(random)) continue;
      const std::uint64_t begin = write.offset + at;
      const std::string sector = write.bytes.substr(at, kSector);
      apply({begin, sector, begin + sector.size()}, bytes);
    }
  }
  return bytes;
}

PowerLoss::Names PowerLoss::names_left(const Node& node, Kept kept, std::mt19937_64& random) {
  Names names = node.synced_names;
  const std::size_t count = node.renamings.size();
  const std::size_t in_order = kept == Kept::kInOrder ? random() % (count + 1) : count;
  for (std::size_t i = 0; i < in_order; ++i) {
    if (kept == Kept::kNothing || (kept == Kept::kAny && draw(random))) continue;
    apply(node.renamings[i], names);
  }
  return names;
}

void PowerLoss::write_out(const Node& node, Kept kept, std::mt19937_64& random,
                          const fs::path& directory) const {
  for (const auto& [name, number] : names_left(node, kept, random)) {
    const Node& child = nodes_[number];
    if (child.is_directory) {
      fs::create_directory(directory / name);
      write_out(child, kept, random, directory / name);
    } else {
      const std::string bytes = bytes_left(child, kept, random);
      std::ofstream(directory / name, std::ios::binary) << bytes;
    }
  }
}

}  // namespace strata::support
