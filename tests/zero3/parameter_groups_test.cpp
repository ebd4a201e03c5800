#include "zero3/parameter_groups.h"

#include <gtest/gtest.h>

#include "strata/base/error.h"

namespace strata::zero3::parameter_groups_test {
namespace {

formats::DsConfig adamw() {
  formats::DsConfig config;
  config.optimizer.lr = 0.1;
  config.optimizer.weight_decay = 0.2;
  config.strata.no_decay = {"*.bias"};
  return config;
}

const optim::AdamOptions& adam(const std::vector<optim::OptimizerOptions>& options,
                               std::uint32_t group) {
  return std::get<optim::AdamOptions>(options.at(group));
}

TEST(ParameterGroups, NoDecayExemptsInEveryGroupThatDoesNotSayOtherwise) {
  ParameterGroups groups(adamw());
  groups.add({.name = "slow", .patterns = {"h.*"}, .lr_scale = 0.5});
  groups.add({.name = "decaying", .patterns = {"x.*"}, .weight_decay = 0.3});
  const auto options = groups.options(adamw().optimizer, 0.1);
  EXPECT_EQ(adam(options, groups.group_of("a.weight", {})).weight_decay, 0.2);
  EXPECT_EQ(adam(options, groups.group_of("a.bias", {})).weight_decay, 0.0);
  EXPECT_EQ(adam(options, groups.group_of("h.weight", {})).lr, 0.05);
  EXPECT_EQ(adam(options, groups.group_of("h.bias", {})).weight_decay, 0.0);
  EXPECT_EQ(adam(options, groups.group_of("x.bias", {})).weight_decay, 0.3);
}

TEST(ParameterGroups, TheOneAddedLastWins) {
  ParameterGroups groups(adamw());
  groups.add({.name = "first", .patterns = {"*"}, .lr = 1.0});
  groups.add({.name = "second", .patterns = {"b.*"}, .lr = 2.0});
  const auto options = groups.options(adamw().optimizer, 0.1);
  EXPECT_EQ(adam(options, groups.group_of("a.weight", {})).lr, 1.0);
  EXPECT_EQ(adam(options, groups.group_of("b.weight", {})).lr, 2.0);
}

TEST(ParameterGroups, ThoseOfTheConfigComeBeforeThoseThatAreAdded) {
  formats::DsConfig config = adamw();
  config.strata.parameter_groups = {
      {.params = {"a.*", "b.*"}, .lr = {}, .lr_scale = 0.5, .weight_decay = {}},
      {.params = {"b.*"}, .lr = 0.3, .lr_scale = {}, .weight_decay = 0.0}};
  ParameterGroups groups(config);
  groups.add({.name = "added", .patterns = {"b.1.*"}, .lr = 2.0});
  const auto options = groups.options(config.optimizer, 0.1);
  EXPECT_EQ(adam(options, groups.group_of("a.weight", {})).lr, 0.05);
  EXPECT_EQ(adam(options, groups.group_of("a.weight", {})).weight_decay, 0.2);
  EXPECT_EQ(adam(options, groups.group_of("b.weight", {})).lr, 0.3);
  EXPECT_EQ(adam(options, groups.group_of("b.weight", {})).weight_decay, 0.0);
  EXPECT_EQ(adam(options, groups.group_of("b.1.weight", {})).lr, 2.0);
  EXPECT_EQ(groups.lr_of("strata.parameter_groups[0]", 0.2), 0.1);
}

TEST(ParameterGroups, WhatTheOptimizerDoesNotHaveIsRefused) {
  ParameterGroups groups(adamw());
  EXPECT_THROW(groups.add({.name = "a", .momentum = 0.9}), UsageError);
  EXPECT_THROW(groups.add({.name = ""}), UsageError);
  EXPECT_THROW(groups.add({.name = "a", .betas = {{1.5, 0.9}}}), ConfigError);
  EXPECT_THROW(groups.add({.name = "a", .lr_scale = -1}), ConfigError);
  groups.add({.name = "a"});
  EXPECT_THROW(groups.add({.name = "a"}), UsageError);
}

}  // namespace
}  // namespace strata::zero3::parameter_groups_test
