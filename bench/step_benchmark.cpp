/// A training step of the GPT-2-small shape, several ways in one run: plain LibTorch in memory,
/// Strata in host memory, Strata all on NVMe under a budget. Each contestant lives in a process of
/// its own; they take turns, one each a round: some steps in a row.

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <iostream>

#include "contestant.h"
#include "contestant_process.h"
#include "step_report.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace {

using namespace strata;
using namespace strata::bench;

struct Options {
  Job job;
  std::string host = "292MiB";
  std::string device = "91MiB";
  int rounds = 9;
  int steps = 3;
  int warm_up = 2;
  std::vector<std::string> only;  ///< empty: all contestants
  std::string json;
  std::string contestant;  ///< the child's side: what to be
};

void add_options(CLI::App& app, Options& options) {
  app.add_option("--preset", options.job.preset, "Shape of the model")->capture_default_str();
  app.add_option("--tokens", options.job.tokens, "Tokens of a micro-batch")->capture_default_str();
  app.add_option("--micro-batches", options.job.micro_batches, "Micro-batches of a step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--nvme", options.job.nvme, "Directory for the nvme tier")->capture_default_str();
  app.add_option("--host", options.host, "Host budget of the run on NVMe")->capture_default_str();
  app.add_option("--device", options.device, "Device budget of the run on NVMe")
      ->capture_default_str();
  app.add_option("--threads", options.job.threads, "Of Strata's optimizer; 0: one a core")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Turns of each contestant that count")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--steps", options.steps, "Steps of a turn, one after the other")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "Turns of one step before them")
      ->capture_default_str();
  app.add_option("--only", options.only, "Names of the contestants to run; default: all");
  app.add_option("--json", options.json, "Also write everything measured to this file");
  app.add_option("--contestant", options.contestant)->group("");
}

/// The arguments of a child that is to be the contestant `name`.
std::vector<std::string> child_arguments(const Options& options, std::string_view name) {
  return {"--contestant",    std::string(name),
          "--preset",        options.job.preset,
          "--tokens",        std::to_string(options.job.tokens),
          "--micro-batches", std::to_string(options.job.micro_batches),
          "--threads",       std::to_string(options.job.threads),
          "--nvme",          options.job.nvme.string(),
          "--host",          options.host,
          "--device",        options.device};
}

std::vector<const ContestantKind*> chosen_kinds(const Options& options) {
  std::vector<const ContestantKind*> kinds;
  if (options.only.empty()) {
    for (const ContestantKind& kind : contestant_kinds()) kinds.push_back(&kind);
  }
  for (const std::string& name : options.only) kinds.push_back(&contestant_kind(name));
  return kinds;
}

void compare(const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);  // a contestant that has ended is noticed when it does not answer
  std::vector<ContestantProcess> processes;
  std::vector<ContestantResult> results;
  for (const ContestantKind* kind : chosen_kinds(options)) {
    processes.emplace_back(child_arguments(options, kind->name));
    results.push_back({std::string(kind->name), std::string(kind->description), {}, 0});
    for (int i = 0; i < options.warm_up; ++i) (void)processes.back().turn(1);
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < processes.size(); ++i) {
      results[i].samples.push_back(processes[i].turn(options.steps));
    }
  }
  for (std::size_t i = 0; i < processes.size(); ++i) {
    results[i].peak_rss_bytes = processes[i].peak_rss_bytes();
  }
  print_report(std::cout, results);
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << report_json(results);
    if (!file.flush()) throw IoError("cannot write " + options.json, errno);
  }
}

void be_contestant(Options& options) {
  options.job.host_budget_bytes = parse_bytes(options.host);
  options.job.device_budget_bytes = parse_bytes(options.device);
  Logger log;
  const std::unique_ptr<Contestant> contestant =
      contestant_kind(options.contestant).make(options.job, log);
  serve(*contestant);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Compares training steps in memory, in host memory and on NVMe."};
  Options options;
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    options.contestant.empty() ? compare(options) : be_contestant(options);
  } catch (const std::exception& error) {
    std::cerr << "step_benchmark: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
