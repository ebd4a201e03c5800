#include "strata/formats/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <system_error>

#include "strata/base/error.h"

namespace strata::formats {
namespace {

// ---- protobuf: the field's number and kind, then its value -------------------------------------

enum class Wire : unsigned { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_key(std::string& out, unsigned field, Wire wire) {
  append_varint(out, field << 3 | static_cast<unsigned>(wire));
}

template <class Number>
void append_little_endian(std::string& out, Number value) {
  for (std::size_t byte = 0; byte < sizeof value; ++byte) {
    out += static_cast<char>(value >> (8 * byte));
  }
}

void append_bytes(std::string& out, unsigned field, std::string_view bytes) {
  append_key(out, field, Wire::kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

// Fields by the names that event.proto and summary.proto give them.
constexpr unsigned kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5,
                   kEventSessionLog = 7;
constexpr unsigned kSummaryValue = 1, kValueTag = 1, kValueSimpleValue = 2;
constexpr unsigned kSessionLogStatus = 1, kSessionStart = 1;

std::string event(std::int64_t step, double now) {
  std::string out;
  append_key(out, kEventWallTime, Wire::kFixed64);
  append_little_endian(out, std::bit_cast<std::uint64_t>(now));
  append_key(out, kEventStep, Wire::kVarint);
  append_varint(out, static_cast<std::uint64_t>(step));
  return out;
}

// ---- records -----------------------------------------------------------------------------------

/// CRC-32C (Castagnoli), least bit first.
constexpr std::array<std::uint32_t, 256> kCrcOfByte = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78U : 0U);
    table[byte] = crc;
  }
  return table;
}();

/// The checksum as records hold it, rotated and shifted so that a sum of sums is none.
std::uint32_t masked_crc(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char each : bytes) {
    crc = crc >> 8 ^ kCrcOfByte[(crc ^ static_cast<unsigned char>(each)) & 0xFF];
  }
  return std::rotr(~crc, 15) + 0xA282EAD8U;
}

/// The name that TensorBoard looks for; the process makes it one of its own.
std::string file_name(double now) {
  char host[HOST_NAME_MAX + 1] = "host";
  (void)::gethostname(host, sizeof host - 1);
  char text[HOST_NAME_MAX + 64];
  std::snprintf(text, sizeof text, "events.out.tfevents.%017.6f.%s.%d", now, host,
                static_cast<int>(::getpid()));
  return text;
}

}  // namespace

EventFile::EventFile(const std::filesystem::path& directory, double now, std::int64_t steps_before)
    : path_(directory / file_name(now)) {
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  if (code) throw system_error("create", directory.string(), code.value());
  errno = 0;
  out_.open(path_, std::ios::binary | std::ios::trunc);
  if (!out_) throw system_error("create", path_.string(), errno);
  std::string first = event(0, now);
  append_bytes(first, kEventFileVersion, "brain.Event:2");
  write_record(first);
  std::string start = event(steps_before == 0 ? 0 : steps_before + 1, now);
  std::string session;
  append_key(session, kSessionLogStatus, Wire::kVarint);
  append_varint(session, kSessionStart);
  append_bytes(start, kEventSessionLog, session);
  write_record(start);
}

void EventFile::write(std::int64_t step, double now, std::span<const EventScalar> scalars) {
  std::string summary;
  for (const EventScalar& scalar : scalars) {
    std::string value;
    append_bytes(value, kValueTag, scalar.tag);
    append_key(value, kValueSimpleValue, Wire::kFixed32);
    append_little_endian(value, std::bit_cast<std::uint32_t>(static_cast<float>(scalar.value)));
    append_bytes(summary, kSummaryValue, value);
  }
  std::string whole = event(step, now);
  append_bytes(whole, kEventSummary, summary);
  write_record(whole);
}

void EventFile::write_record(const std::string& event) {
  std::string record;
  append_little_endian(record, static_cast<std::uint64_t>(event.size()));
  append_little_endian(record, masked_crc(record));
  record += event;
  append_little_endian(record, masked_crc(event));
  errno = 0;
  out_.write(record.data(), static_cast<std::streamsize>(record.size())).flush();
  if (!out_) throw system_error("write", path_.string(), errno);
}

}  // namespace strata::formats
