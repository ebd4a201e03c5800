#include "fio_speeds.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <system_error>

namespace strata::nvme_bench {
namespace {

using Json = nlohmann::json;

/// The jobs that ran at the same time.
struct Group {
  double read = 0, write = 0;  // bytes per second
  bool has_reads = false;      // told by the options of its jobs
  bool has_writes = false;
  bool has_others = false;  // jobs that are not sequential
  bool is_merged = false;   // a single entry stands for all jobs, with one's options
};

/// An option of a job, or of all of them; null where neither has it.
Json option(const Json& result, const Json& job, const char* name) {
  for (const auto& [holder, key] : {std::pair{&job, "job options"}, {&result, "global options"}}) {
    const auto options = holder->find(key);
    if (options != holder->end() && options->contains(name)) return options->at(name);
  }
  return {};
}

std::string workload_of(const Json& result, const Json& job) {
  const bool has_options = job.contains("job options") || result.contains("global options");
  const Json named = option(result, job, "rw");
  if (named.is_string()) return named;
  return has_options ? "read" : "";  // fio's default
}

double speed(const Json& direction) {
  if (direction.contains("bw_bytes")) return direction["bw_bytes"];
  return direction.at("bw").get<double>() * 1024;  // fio before 3.0 had no other
}

void add_job(const Json& result, const Json& job, Group& group) {
  const std::string workload = workload_of(result, job);
  const bool is_mixed = workload == "rw" || workload == "readwrite";
  group.has_reads |= is_mixed || workload == "read";
  group.has_writes |= is_mixed || workload == "write";
  group.has_others |= !is_mixed && workload != "read" && workload != "write";
  group.is_merged |= !option(result, job, "group_reporting").is_null() &&
                     option(result, job, "verify").is_null();  // which reads back what was written
  group.read += speed(job.at("read"));
  group.write += speed(job.at("write"));
}

std::vector<Group> groups_of(const Json& result) {
  const bool one_by_one = result.contains("ds_nvme_bench version");
  std::map<long, std::size_t> index_of_id;
  std::vector<Group> groups;
  for (const Json& job : result.at("jobs")) {
    std::size_t index = groups.size();
    if (!one_by_one && job.contains("groupid")) {
      index = index_of_id.try_emplace(job["groupid"].get<long>(), index).first->second;
    }
    if (index == groups.size()) groups.emplace_back();
    add_job(result, job, groups[index]);
  }
  return groups;
}

bool is_letter(char c) { return c >= 'a' && c <= 'z'; }

/// The place of `word` in a line of small letters, from `from` on; npos when it is not there.
std::size_t find_word(std::string_view line, std::string_view word, std::size_t from = 0) {
  for (std::size_t at = line.find(word, from); at != std::string_view::npos;
       at = line.find(word, at + 1)) {
    if (at == 0 || !is_letter(line[at - 1])) return at;
  }
  return std::string_view::npos;
}

bool has_word(std::string_view line, std::string_view word) {
  return find_word(line, word) != std::string_view::npos;
}

/// "error" or "err", but not "err= 0", which stands in the line of every job.
bool has_error(std::string_view line) {
  for (std::size_t at = find_word(line, "err"); at != std::string_view::npos;
       at = find_word(line, "err", at + 1)) {
    std::string_view rest = line.substr(at);
    rest.remove_prefix(std::min(rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), rest.size()));
    if (!rest.starts_with('=')) return true;
    rest.remove_prefix(std::min(rest.find_first_not_of("= "), rest.size()));
    if (!rest.starts_with('0')) return true;
  }
  return false;
}

}  // namespace

DiskSpeeds speeds_of_fio(const Json& result) {
  DiskSpeeds speeds;
  for (Group& group : groups_of(result)) {
    if (group.has_others) continue;
    if (group.is_merged) {
      group.has_reads |= group.read > 0;
      group.has_writes |= group.write > 0;
    }
    if (!group.has_writes) {
      speeds.read = std::max(speeds.read, group.read);
    } else if (!group.has_reads) {
      speeds.write = std::max(speeds.write, group.write);
    } else if (group.read + group.write > speeds.mixed_read + speeds.mixed_write) {
      speeds.mixed_read = group.read;
      speeds.mixed_write = group.write;
    }
  }
  return speeds;
}

std::vector<std::string> failed_jobs(const Json& result) {
  std::vector<std::string> failed;
  for (const Json& job : result.at("jobs")) {
    const int error = job.value("error", 0);
    if (error == 0) continue;
    failed.push_back("its job '" + job.value("jobname", "?") + "' ended with error " +
                     std::to_string(error) + " (" + std::generic_category().message(error) + ")");
  }
  return failed;
}

bool is_complaint(std::string_view line) {
  std::string lower(line.substr(std::min(line.find_first_not_of(" \t"), line.size())));
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower.starts_with("fio:") || has_error(lower) || has_word(lower, "failed") ||
         has_word(lower, "unable");
}

}  // namespace strata::nvme_bench
