#include "strata/formats/token_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "formats/token_bytes.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::token_data_test {
namespace {

using support::TempDirectory;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::int64_t> read_all(const TokenData& data) {
  std::vector<std::int64_t> tokens(data.size());
  data.read(0, tokens);
  return tokens;
}

class TokenDataTest : public ::testing::Test {
 protected:
  TokenData open(const std::string& name, std::string_view content, std::int64_t vocab_size,
                 std::optional<TokenEncoding> encoding = std::nullopt) {
    return TokenData::from_file(directory_.write(name, content), vocab_size, encoding);
  }
  std::string error_of(const std::string& name, std::string_view content,
                       std::int64_t vocab_size = 50257) {
    return support::message_of<DataError>([&] { (void)read_all(open(name, content, vocab_size)); });
  }

  TempDirectory directory_;
};

TEST_F(TokenDataTest, BytesOfATextAreTokens) {
  const TokenData data = open("text.txt", "a\xff\n", 256);
  EXPECT_EQ(data.encoding(), TokenEncoding::kBytes);
  EXPECT_THAT(read_all(data), ElementsAre('a', 255, '\n'));
}

TEST_F(TokenDataTest, ReadsNanoGptsFiles) {
  const TokenData data = open("train.bin", bytes_of<std::uint16_t>({0, 65535, 50256}), 65536);
  EXPECT_EQ(data.encoding(), TokenEncoding::kUint16);
  EXPECT_THAT(read_all(data), ElementsAre(0, 65535, 50256));
}

TEST_F(TokenDataTest, ReadsLlmcsFilesOfBothWidths) {
  const TokenData narrow =
      open("a.bin", llmc_header(20240520, 1, 2) + bytes_of<std::uint16_t>({7, 50256}), 50257);
  EXPECT_EQ(narrow.encoding(), TokenEncoding::kUint16);
  EXPECT_THAT(read_all(narrow), ElementsAre(7, 50256));
  const TokenData wide =
      open("b.bin", llmc_header(20240801, 7, 2) + bytes_of<std::uint32_t>({7, 128000}), 128256);
  EXPECT_EQ(wide.encoding(), TokenEncoding::kUint32);
  EXPECT_THAT(read_all(wide), ElementsAre(7, 128000));
}

TEST_F(TokenDataTest, ReadsWideTokensWithoutAHeaderByNameOrByChoice) {
  const std::string content = bytes_of<std::uint32_t>({1, 100'000});
  EXPECT_THAT(read_all(open("train.u32.bin", content, 128'256)), ElementsAre(1, 100'000));
  EXPECT_THAT(read_all(open("train.bin", content, 128'256, TokenEncoding::kUint32)),
              ElementsAre(1, 100'000));
  EXPECT_EQ(open("train.bin", content, 128'256).size(), 4u);
}

TEST_F(TokenDataTest, WideTokensUnderTheNameOfNarrowOnesAreRefused) {
  std::vector<std::uint32_t> wide(5000);
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<std::uint32_t>(i * 7 % 50257);
  EXPECT_THAT(error_of("x.bin", bytes_of(wide)), AllOf(HasSubstr("uint32"), HasSubstr(".u32.bin")));
  wide[100] = 128'000;
  EXPECT_THAT(error_of("x.bin", bytes_of(wide), 128'256), HasSubstr(".u32.bin"));
  EXPECT_NO_THROW(
      (void)open("x.bin", bytes_of<std::uint16_t>(std::vector<std::uint16_t>(64, 0)), 9));
  EXPECT_NO_THROW(
      (void)open("x.bin", bytes_of<std::uint16_t>(std::vector<std::uint16_t>(64, 1)), 9));
}

TEST_F(TokenDataTest, ReadsAnyRangeOfALongFile) {
  std::vector<std::uint16_t> tokens(100'000);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::uint16_t>(i);
  const TokenData data = open("long.bin", bytes_of(tokens), 65536);
  for (const std::size_t begin : {0u, 1u, 32'767u, 99'999u, 100'000u}) {
    std::vector<std::int64_t> read(tokens.size() - begin);
    data.read(begin, read);
    EXPECT_TRUE(std::equal(read.begin(), read.end(), tokens.begin() + begin));
  }
  EXPECT_NO_THROW(data.check_all());
}

TEST_F(TokenDataTest, RefusesRangesBeyondTheFile) {
  const TokenData data = open("t.txt", "abc", 256);
  std::vector<std::int64_t> out(2);
  EXPECT_THROW(data.read(2, out), UsageError);
  EXPECT_THROW(data.read(UINT64_MAX, out), UsageError);
}

TEST_F(TokenDataTest, AnIdBeyondTheVocabularyIsNamedWithItsPlace) {
  const std::string content = bytes_of<std::uint16_t>({1, 2, 50257, 4});
  EXPECT_THAT(error_of("x.bin", content),
              AllOf(HasSubstr("token id 50257 at byte 4"), HasSubstr("vocabulary of 50257"),
                    HasSubstr("x.bin"), HasSubstr("uint16")));
  EXPECT_THAT(error_of("x.bin", llmc_header(20240520, 1, 4) + content), HasSubstr("at byte 1028"));
  EXPECT_THAT(error_of("x.txt", "ab\x80", 128), HasSubstr("token id 128 at byte 2"));
}

TEST_F(TokenDataTest, CheckingAllFindsTheLastBadId) {
  std::vector<std::uint16_t> tokens(200'000, 3);
  tokens.back() = 60'000;
  const TokenData data = open("x.bin", bytes_of(tokens), 50257);
  std::vector<std::int64_t> out(1000);
  EXPECT_NO_THROW(data.read(0, out));
  EXPECT_THROW(data.check_all(), DataError);
}

TEST_F(TokenDataTest, RefusesFilesThatCannotBeTokens) {
  EXPECT_THAT(error_of("empty.txt", ""), HasSubstr("is empty"));
  EXPECT_THAT(error_of("empty.bin", ""), HasSubstr("is empty"));
  EXPECT_THAT(error_of("empty.bin", llmc_header(20240520, 1, 0)), HasSubstr("is empty"));
  EXPECT_THAT(error_of("odd.bin", "abc"), HasSubstr("not a whole number of uint16"));
  EXPECT_THAT(error_of("odd.u32.bin", "abcdef"), HasSubstr("not a whole number of uint32"));
  EXPECT_THAT(error_of("odd.bin", llmc_header(20240520, 1, 1) + "abc"),
              HasSubstr("not a whole number"));
  EXPECT_THAT(error_of("short.bin", llmc_header(20240520, 1, 9) + "abcd"),
              AllOf(HasSubstr("says 9 tokens"), HasSubstr("holds 2"), HasSubstr("truncated")));
  EXPECT_THAT(error_of("negative.bin", llmc_header(20240520, 1, -1) + "abcd"),
              HasSubstr("says -1 tokens"));
}

TEST_F(TokenDataTest, AChoiceThatContradictsTheHeaderIsAnError) {
  const std::string content = llmc_header(20240520, 1, 2) + "abcd";
  EXPECT_THROW((void)open("x.bin", content, 70000, TokenEncoding::kUint32), DataError);
}

TEST_F(TokenDataTest, RefusesAVocabularyOfNothingAndFilesThatAreNone) {
  EXPECT_THROW((void)open("x.txt", "abc", 0), ConfigError);
  EXPECT_THROW((void)TokenData::from_file(directory_.path() / "missing", 1), IoError);
  EXPECT_THROW((void)TokenData::from_file(directory_.path(), 1), DataError);
}

}  // namespace
}  // namespace strata::formats::token_data_test
