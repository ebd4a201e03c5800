#include "strata/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::safetensors_test {
namespace {

using support::caught;
using support::message_of;
using support::TempDirectory;
using ::testing::HasSubstr;

/// A file of this header (whatever it says) and data.
std::string file_of(std::string_view header, std::size_t data_bytes) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file.append(header).append(data_bytes, '\7');
}

std::vector<std::byte> counting_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 256);
  return bytes;
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const TempDirectory directory;
  const auto path = directory.path() / "model.safetensors";
  const auto data = counting_bytes(4 * 6 + 2 * 5 + 0 + 8);
  SafetensorsWriter writer(path,
                           {{.name = "a.weight", .dtype = DType::kF32, .shape = {2, 3}},
                            {.name = "b \"quoted\" \xc3\xa4", .dtype = DType::kBF16, .shape = {5}},
                            {.name = "empty", .dtype = DType::kF16, .shape = {0, 7}},
                            {.name = "scalar", .dtype = DType::kI64, .shape = {}}},
                           {{"format", "pt"}, {"note", "x"}});
  writer.append(std::span(data).first(7));  // pieces need not end where tensors do
  writer.append(std::span(data).subspan(7));
  writer.finish();

  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata().at("note"), "x");
  const TensorInfo* const b = file.find("b \"quoted\" \xc3\xa4");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->description(), "BF16 [5]");
  EXPECT_EQ(b->bytes, 10u);
  std::vector<std::byte> read(6);
  file.read(*b, 4, read);
  EXPECT_TRUE(std::equal(read.begin(), read.end(), data.begin() + 24 + 4));
  EXPECT_EQ(file.find("empty")->bytes, 0u);
  EXPECT_EQ(file.find("scalar")->elements(), 1u);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.tensors()[0].offset % 8, 0u);
  EXPECT_EQ(writer.tensors()[1].offset, b->offset);
}

TEST(Safetensors, RefusesToReadBeyondATensor) {
  const TempDirectory directory;
  const SafetensorsFile file(
      directory.write("f", file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4)));
  std::vector<std::byte> bytes(4);
  EXPECT_NO_THROW(file.read(file.tensors()[0], 0, bytes));
  EXPECT_THROW(file.read(file.tensors()[0], 1, bytes), UsageError);
  EXPECT_THROW(file.read(file.tensors()[0], UINT64_MAX, bytes), UsageError);
}

TEST(Safetensors, ListsTensorsInTheOrderOfTheFileWhateverTheHeaderSays) {
  const TempDirectory directory;
  const SafetensorsFile file(
      directory.write("f", file_of(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},)"
                                   R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}   )",
                                   5)));
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[1].name, "b");
}

TEST(Safetensors, AcceptsAFileWithoutTensors) {
  const TempDirectory directory;
  EXPECT_TRUE(SafetensorsFile(directory.write("f", file_of("{}", 0))).tensors().empty());
}

TEST(Safetensors, KnowsTheWidthOfEveryDtype) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
    EXPECT_GE(bits_of(dtype), 4u);
  }
  EXPECT_EQ(bits_of(DType::kF8E4M3Fnuz), 8u);
  EXPECT_EQ(bits_of(DType::kC64), 64u);
  EXPECT_FALSE(dtype_from_name("F33").has_value());
}

struct HostileFile {
  const char* what;
  std::string content;
  const char* words;
};

std::string one_tensor(const char* entry, std::size_t data_bytes = 4) {
  return file_of(std::string("{\"a\":") + entry + "}", data_bytes);
}

std::vector<HostileFile> hostile_files() {
  const std::string huge = std::string("\xff\xff\xff\xff\xff\xff\xff\xff") + "{}";
  const std::string million = std::string("\x40\x42\x0f\0\0\0\0\0", 8) + "{}";
  const std::string above_cap = std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}";
  std::string deep = R"({"a":)" + std::string(100'000, '[');
  return {
      {"nothing", "", "too few"},
      {"seven bytes", "1234567", "too few"},
      {"a length of 2^64", huge, "100 MB"},
      {"a length one above the cap", above_cap, "100 MB"},
      {"a length beyond the file", million, "truncated"},
      {"an empty header", std::string(8, '\0'), "'{'"},
      {"a header of spaces", file_of("   {}", 0), "'{'"},
      {"an array", file_of("[]", 0), "'{'"},
      {"text", file_of("hello", 0), "'{'"},
      {"an unclosed object", file_of(R"({"a":{)", 0), "syntax error"},
      {"a zip behind the header", file_of("{}PK", 0), "syntax error"},
      {"invalid UTF-8", file_of("{\"\xc0\xaf\":1}", 0), "invalid"},
      {"deep nesting", file_of(deep, 0), "deeper than"},
      {"a tensor twice",
       file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
               8),
       "stands twice"},
      {"a key of a tensor twice",
       one_tensor(R"({"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]})"),
       "stands twice"},
      {"metadata of numbers", file_of(R"({"__metadata__":{"n":1}})", 0), "expected a string"},
      {"metadata that is a list", file_of(R"({"__metadata__":[]})", 0), "expected an object"},
      {"a tensor that is a number", one_tensor("4"), "expected an object"},
      {"an unknown dtype", one_tensor(R"({"dtype":"F33","shape":[1],"data_offsets":[0,4]})"),
       "unknown dtype \"F33\""},
      {"a dtype in lower case", one_tensor(R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})"),
       "unknown dtype"},
      {"no dtype", one_tensor(R"({"shape":[1],"data_offsets":[0,4]})"), "\"dtype\" is missing"},
      {"no shape", one_tensor(R"({"dtype":"F32","data_offsets":[0,4]})"), "\"shape\" is missing"},
      {"no offsets", one_tensor(R"({"dtype":"F32","shape":[1]})"), "\"data_offsets\" is missing"},
      {"an unknown key", one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1})"),
       "unknown key"},
      {"a negative size", one_tensor(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"),
       "not negative"},
      {"a size of 2^64-1",
       one_tensor(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]})"),
       "too large"},
      {"a fractional size", one_tensor(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"),
       "expected an integer"},
      {"sizes that wrap to the right number",
       one_tensor(R"({"dtype":"U8","shape":[4294967297,4294967296],"data_offsets":[0,4]})"),
       "beyond 2^63"},
      {"sizes whose product is 2^64",
       one_tensor(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0),
       "beyond 2^63"},
      {"offsets of one number", one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4]})"),
       "[begin, end]"},
      {"offsets backwards", one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"),
       "before it begins"},
      {"a shape that is larger than the offsets",
       one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), "span 4"},
      {"half a byte", one_tensor(R"({"dtype":"F4","shape":[7],"data_offsets":[0,4]})"),
       "not whole bytes"},
      {"a hole at the begin", one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8),
       "a hole"},
      {"a hole between",
       file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
               9),
       "a hole"},
      {"an overlap",
       file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
               6),
       "an overlap"},
      {"two tensors in one place",
       file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
               R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
               4),
       "an overlap"},
      {"data that is too short",
       one_tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 7), "truncated"},
      {"data that is too long",
       one_tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 5), "belong to none"},
      {"an offset near 2^64",
       one_tensor(R"({"dtype":"U8","shape":[0],)"
                  R"("data_offsets":[18446744073709551615,18446744073709551615]})"),
       "a hole"},
      {"a control character in a name",
       file_of(R"({"a\u0000\u001bb":{"dtype":"F33","shape":[],"data_offsets":[0,4]}})", 4),
       "\\x00\\x1b"},
  };
}

TEST(Safetensors, RefusesHostileFilesAndSaysWhy) {
  const TempDirectory directory;
  for (const auto& [what, content, words] : hostile_files()) {
    const auto path = directory.write("hostile.safetensors", content);
    const auto error = caught<DataError>([&] { const SafetensorsFile file(path); });
    ASSERT_TRUE(error) << what;
    EXPECT_THAT(error->what(), HasSubstr(words)) << what;
    EXPECT_THAT(error->what(), HasSubstr("hostile.safetensors")) << what;
  }
}

TEST(Safetensors, RefusesEveryTruncation) {
  const TempDirectory directory;
  const std::string whole =
      file_of(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(SafetensorsFile(directory.write("f", whole.substr(0, length))), DataError)
        << length;
  }
}

TEST(Safetensors, OpensRegularFilesOnly) {
  const TempDirectory directory;
  const auto fifo = directory.path() / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THROW(SafetensorsFile{fifo}, DataError);  // and does not wait for a writer
  EXPECT_THROW(SafetensorsFile{directory.path()}, DataError);
  EXPECT_THROW(SafetensorsFile{"/dev/zero"}, DataError);
  EXPECT_THROW(SafetensorsFile{directory.path() / "missing"}, IoError);
  const auto link = directory.path() / "link";
  std::filesystem::create_symlink(directory.write("f", file_of("{}", 0)), link);
  EXPECT_THROW(SafetensorsFile{link}, DataError);
}

TEST(Safetensors, ReportsAFileThatShrinksWhileItIsOpen) {
  const TempDirectory directory;
  const auto path = directory.write(
      "f", file_of(R"({"a":{"dtype":"U8","shape":[4096],"data_offsets":[0,4096]}})", 4096));
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, 100);
  std::vector<std::byte> bytes(4096);
  EXPECT_THROW(file.read(file.tensors()[0], 0, bytes), IoError);
}

TEST(SafetensorsWriter, TakesExactlyTheDeclaredBytes) {
  const TempDirectory directory;
  SafetensorsWriter writer(directory.path() / "f",
                           {{.name = "a", .dtype = DType::kF32, .shape = {1}},
                            {.name = "b", .dtype = DType::kF32, .shape = {1}}});
  const auto bytes = counting_bytes(9);
  writer.append(std::span(bytes).first(4));
  EXPECT_THAT(message_of<UsageError>([&] { writer.finish(); }),
              HasSubstr("4 bytes are missing, from tensor \"b\" on"));
  EXPECT_THROW(writer.append(std::span(bytes).first(5)), UsageError);
  writer.append(std::span(bytes).first(4));
  EXPECT_NO_THROW(writer.finish());
}

TEST(SafetensorsWriter, RefusesDeclarationsThatNoFileHolds) {
  const TempDirectory directory;
  const auto path = directory.path() / "f";
  const auto declare = [&](std::vector<TensorInfo> tensors) {
    const SafetensorsWriter writer(path, std::move(tensors));
  };
  EXPECT_THROW(declare({{.name = "a"}, {.name = "a"}}), UsageError);
  EXPECT_THROW(declare({{.name = "a", .shape = {-1}}}), UsageError);
  EXPECT_THROW(declare({{.name = "a", .shape = {INT64_MAX, 8}}}), UsageError);
  EXPECT_THROW(declare({{.name = "__metadata__"}}), UsageError);
  EXPECT_THROW(declare({{.name = "\xff"}}), UsageError);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(SafetensorsWriter, NeverOverwrites) {
  const TempDirectory directory;
  const auto path = directory.write("f", "precious");
  EXPECT_THROW(SafetensorsWriter(path, {}), IoError);
  EXPECT_EQ(std::filesystem::file_size(path), 8u);
}

/// Exits with 7 when the error names the cause.
[[noreturn]] void append_beyond_the_file_size_limit(SafetensorsWriter& writer) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {4096, 4096};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  try {
    writer.append(counting_bytes(1 << 20));
  } catch (const IoError& error) {
    std::exit(error.code() == EFBIG ? 7 : 1);
  }
  std::exit(2);
}

TEST(SafetensorsWriter, ReportsWhenTheDiskTakesNoMore) {
  const TempDirectory directory;
  SafetensorsWriter writer(directory.path() / "f",
                           {{.name = "a", .dtype = DType::kU8, .shape = {1 << 20}}});
  EXPECT_EXIT(append_beyond_the_file_size_limit(writer), ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace strata::formats::safetensors_test
