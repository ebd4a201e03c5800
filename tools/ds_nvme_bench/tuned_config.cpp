#include "tuned_config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "json_splice.h"
#include "output_file.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/json.h"

namespace strata::nvme_bench {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

/// The values in DeepSpeed's types: numbers, and booleans that are booleans.
OrderedJson aio_of(const Setting& setting, OrderedJson aio) {
  const formats::AioConfig values = aio_config(setting);
  aio.erase("thread_count");
  aio.erase("num_threads");
  aio["block_size"] = values.block_bytes;
  aio["queue_depth"] = values.queue_depth;
  aio["intra_op_parallelism"] = values.threads;
  aio["single_submit"] = false;
  aio["overlap_events"] = true;
  return aio;
}

OrderedJson io_section(const Setting& setting) {
  OrderedJson section;
  section["io"] = name_of(setting.engine);
  return section;
}

OrderedJson json_of(const formats::JsonValue& value) {
  switch (value.type()) {
    case formats::JsonType::kNull: return nullptr;
    case formats::JsonType::kBoolean: return value.as_bool();
    case formats::JsonType::kInteger: return value.as_int64();
    case formats::JsonType::kNumber: return value.as_double();
    case formats::JsonType::kString: return value.as_string();
    case formats::JsonType::kArray: {
      OrderedJson array = OrderedJson::array();
      for (const formats::JsonValue& element : value.elements()) array.push_back(json_of(element));
      return array;
    }
    case formats::JsonType::kObject: {
      OrderedJson object = OrderedJson::object();
      for (const auto& [key, member] : value.members()) object[std::string(key)] = json_of(member);
      return object;
    }
  }
  return nullptr;
}

/// A section as it is written, without its comments.
OrderedJson section_or_empty(std::string_view text) {
  if (text.empty() || text == "null") return OrderedJson::object();
  return json_of(formats::JsonValue::parse(text, "section", formats::JsonRole::kHjsonConfig));
}

/// `value` on lines of its own, as a member of an object whose members are indented by `indent`.
std::string dump_indented(const OrderedJson& value, const std::string& indent) {
  if (indent.empty()) return value.dump();
  std::string text;
  for (const char c : value.dump(static_cast<int>(indent.size()), indent.front())) {
    text += c;
    if (c == '\n') text += indent;
  }
  return text;
}

/// "strata.io" as the parser understood it.
std::string io_of(const formats::DsConfig& config) {
  return OrderedJson::parse(config.resolved_json())["strata"]["io"].get<std::string>();
}

/// The rest of the config, apart from the setting.
formats::DsConfig without_setting(formats::DsConfig config) {
  config.aio = {};
  config.strata.io = {};
  std::erase_if(config.ignored_keys,
                [](const std::string& key) { return key.starts_with("aio."); });
  return config;
}

void check_reads_back(const formats::DsConfig& before, const formats::DsConfig& after,
                      const Setting& setting) {
  STRATA_CHECK(after.aio == aio_config(setting) && io_of(after) == name_of(setting.engine),
               "the setting reads back differently: " + after.resolved_json());
  STRATA_CHECK(without_setting(before) == without_setting(after),
               "another key changed: " + after.resolved_json());
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw system_error("read", path.string(), errno);
  return std::move(text).str();
}

/// A file beside `target` that takes its place, or is removed.
class Replacement {
 public:
  explicit Replacement(const fs::path& target) : target_(target) {
    name_ = (target.parent_path() / ("." + target.filename().string() + ".XXXXXX")).string();
    descriptor_ = ::mkostemp(name_.data(), O_CLOEXEC);
    if (descriptor_ < 0) throw failed("create a file beside");
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;
  ~Replacement() {
    ::close(descriptor_);
    if (!name_.empty()) ::unlink(name_.c_str());
  }

  /// Takes owner, group and permissions of the file that it replaces; where there is none, what
  /// the umask leaves.
  void inherit() {
    struct stat old {};
    if (::stat(target_.c_str(), &old) != 0) {
      old.st_uid = ::geteuid();
      old.st_gid = static_cast<gid_t>(-1);  // the group that the directory gives
      const mode_t mask = ::umask(0);
      ::umask(mask);
      old.st_mode = 0666 & ~mask;
    }
    // Changing the owner clears bits of the mode, so that comes first.
    if (::fchown(descriptor_, old.st_uid, old.st_gid) != 0) {
      throw system_error("keep the owner and group of", target_.string(), errno,
                         "let its owner or root write the config");
    }
    if (::fchmod(descriptor_, old.st_mode & 07777) != 0) throw failed("set the permissions of");
  }

  void write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::write(descriptor_, text.data(), text.size());
      if (count < 0 && errno != EINTR) throw failed("write");
      if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  void publish() {
    if (::fsync(descriptor_) != 0) throw failed("write");
    if (::rename(name_.c_str(), target_.c_str()) != 0) throw failed("replace");
    name_.clear();
  }

 private:
  [[nodiscard]] IoError failed(std::string_view action) const {
    return system_error(action, target_.string(), errno,
                        "a config is written as a new file beside the old one");
  }

  fs::path target_;
  std::string name_;
  int descriptor_ = -1;
};

}  // namespace

formats::AioConfig aio_config(const Setting& setting) {
  const std::int64_t in_all = std::int64_t{setting.depth} * setting.threads;
  const bool one_thread_for_each_request = setting.engine == IoBackend::kThreads;
  return {.block_bytes = static_cast<std::int64_t>(setting.block_bytes),
          .queue_depth = one_thread_for_each_request ? in_all : setting.depth,
          .threads = one_thread_for_each_request ? in_all : setting.threads};
}

std::string config_sections(const Setting& setting) {
  OrderedJson sections;
  sections["aio"] = aio_of(setting, OrderedJson::object());
  sections["strata"] = io_section(setting);
  return sections.dump(2) + "\n";
}

std::string with_setting(std::string_view text, const std::string& name, const Setting& setting) {
  const auto before = formats::DsConfig::from_text(text, name);
  const std::string indent = indentation_of(text);
  const OrderedJson aio = aio_of(setting, section_or_empty(member_of(text, "aio")));
  std::string changed = with_member(text, "aio", dump_indented(aio, indent));

  const std::string io = OrderedJson(name_of(setting.engine)).dump();
  const std::string_view section = member_of(changed, "strata");
  const bool has_section = !section.empty() && section != "null";
  const std::string strata =
      has_section ? with_member(section, "io", io) : dump_indented(io_section(setting), indent);
  changed = with_member(changed, "strata", strata);

  check_reads_back(before, formats::DsConfig::from_text(changed, name), setting);
  return changed;
}

void check_config(const fs::path& path) {
  constexpr Setting kAnySetting{
      .engine = IoBackend::kIoUring, .block_bytes = 1_MiB, .depth = 1, .threads = 1};
  const fs::path target = tool::behind_links(path);
  if (fs::is_directory(target)) {
    throw system_error("write", path.string(), EISDIR, "name a file");
  }
  if (fs::exists(target)) {
    const fs::file_status status = fs::status(target);
    if (!fs::is_regular_file(status)) {
      throw ConfigError(path.string() + " is not a regular file; name the config's file");
    }
    if ((status.permissions() & fs::perms::owner_write) == fs::perms::none) {
      throw system_error("write", path.string(), EACCES, "it is read-only: chmod u+w");
    }
    (void)with_setting(read_file(target), path.string(), kAnySetting);
  }
  Replacement tried(target);
  tried.inherit();
}

void write_setting(const fs::path& path, const Setting& setting) {
  const fs::path target = tool::behind_links(path);
  const std::string text = fs::exists(target)
                               ? with_setting(read_file(target), path.string(), setting)
                               : config_sections(setting);
  Replacement file(target);
  file.inherit();
  file.write(text);
  file.publish();
}

}  // namespace strata::nvme_bench
