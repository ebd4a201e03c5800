#include "contestant_process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "strata/base/clock.h"
#include "strata/base/error.h"

namespace strata::bench {

namespace {

constexpr std::string_view kTurn = "turn ";  // and the number of steps
constexpr std::string_view kPeakRss = "peak_rss";

void require(bool succeeded, const char* what) {
  if (!succeeded) throw system_error(what, "contestant", errno);
}

/// Peak resident set of this process ("VmHWM"). Unlike getrusage's, it starts anew at exec.
std::uint64_t own_peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  throw Error("/proc/self/status has no VmHWM");
}

nlohmann::json to_json(const StepSample& sample) {
  nlohmann::json hops = nlohmann::json::array();
  for (const HopReading& hop : sample.hops) {
    hops.push_back({hop.bytes, hop.calls, hop.busy_ns, hop.wait_ns});
  }
  return {{"seconds", sample.seconds},
          {"loss", sample.loss},
          {"system_seconds", sample.system_seconds},
          {"minor_faults", sample.minor_faults},
          {"hops", hops}};
}

StepSample sample_from(const nlohmann::json& json) {
  StepSample sample{.seconds = json.at("seconds"),
                    .loss = json.at("loss"),
                    .system_seconds = json.at("system_seconds"),
                    .minor_faults = json.at("minor_faults")};
  for (std::size_t i = 0; i < kHopCount; ++i) {
    const nlohmann::json& hop = json.at("hops").at(i);
    sample.hops[i] = {.bytes = hop[0], .calls = hop[1], .busy_ns = hop[2], .wait_ns = hop[3]};
  }
  return sample;
}

rusage own_usage() {
  rusage usage{};
  require(getrusage(RUSAGE_SELF, &usage) == 0, "cannot read the use of");
  return usage;
}

double system_seconds(const rusage& usage) {
  return static_cast<double>(usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_stime.tv_usec) * 1e-6;
}

/// What a step leaves to be done goes on beside the next one, so the clock starts with such a rest
/// and stops with one: each step counts what a step of a long run takes.
StepSample timed_turn(Contestant& contestant, int steps) {
  contestant.step();
  const CounterReading before = contestant.counters();
  const rusage usage_before = own_usage();
  const Time start = kSystemClock.now();
  double loss = 0.0;
  for (int i = 0; i < steps; ++i) loss = contestant.step();
  const std::chrono::duration<double> time = kSystemClock.now() - start;
  const rusage usage = own_usage();
  const CounterReading moved = contestant.counters() - before;
  contestant.finish();
  StepSample sample{
      .seconds = time.count() / steps,
      .loss = loss,
      .system_seconds = (system_seconds(usage) - system_seconds(usage_before)) / steps,
      .minor_faults = static_cast<std::uint64_t>(usage.ru_minflt - usage_before.ru_minflt) /
                      static_cast<std::uint64_t>(steps),
      .hops = moved.hops};
  for (HopReading& hop : sample.hops) {
    for (std::uint64_t* const sum : {&hop.bytes, &hop.calls, &hop.busy_ns, &hop.wait_ns}) {
      *sum /= static_cast<std::uint64_t>(steps);
    }
  }
  return sample;
}

}  // namespace

ContestantProcess::ContestantProcess(const std::vector<std::string>& arguments) {
  int to_child[2], from_child[2];
  require(pipe2(to_child, O_CLOEXEC) == 0 && pipe2(from_child, O_CLOEXEC) == 0, "cannot make pipe");
  std::vector<char*> argv;
  std::string program = "/proc/self/exe";
  argv.push_back(program.data());
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);

  child_ = fork();
  require(child_ >= 0, "cannot start");
  if (child_ == 0) {
    dup2(to_child[0], STDIN_FILENO);
    dup2(from_child[1], STDOUT_FILENO);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  close(to_child[0]);
  close(from_child[1]);
  requests_ = fdopen(to_child[1], "w");
  answers_ = fdopen(from_child[0], "r");
}

ContestantProcess::ContestantProcess(ContestantProcess&& other) noexcept
    : child_(std::exchange(other.child_, -1)),
      requests_(std::exchange(other.requests_, nullptr)),
      answers_(std::exchange(other.answers_, nullptr)) {}

ContestantProcess::~ContestantProcess() {
  if (child_ < 0) return;
  std::fclose(requests_);
  std::fclose(answers_);
  waitpid(child_, nullptr, 0);
}

std::string ContestantProcess::ask(std::string_view request) {
  std::fprintf(requests_, "%s\n", std::string(request).c_str());
  std::fflush(requests_);
  std::string answer;
  for (int c = std::fgetc(answers_); c != '\n'; c = std::fgetc(answers_)) {
    if (c == EOF) throw Error("a contestant ended before it answered; see what it wrote above");
    answer.push_back(static_cast<char>(c));
  }
  return answer;
}

StepSample ContestantProcess::turn(int steps) {
  return sample_from(nlohmann::json::parse(ask(std::string(kTurn) + std::to_string(steps))));
}

std::uint64_t ContestantProcess::peak_rss_bytes() {
  return nlohmann::json::parse(ask(kPeakRss)).get<std::uint64_t>();
}

void serve(Contestant& contestant) {
  for (std::string request; std::getline(std::cin, request);) {
    const bool is_turn = request.starts_with(kTurn);
    STRATA_CHECK(is_turn || request == kPeakRss, request);
    const nlohmann::json answer =
        is_turn ? to_json(timed_turn(contestant, std::stoi(request.substr(kTurn.size()))))
                : nlohmann::json(own_peak_rss_bytes());
    std::cout << answer.dump() << std::endl;
  }
}

}  // namespace strata::bench
