#include "strata/cpu_adam/cpu_adam.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/torch.h>

#include <ostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"

namespace strata {
namespace {

using testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;

/// A type of parameters and how their states rest.
struct Kind {
  std::string name;
  torch::ScalarType type;
  MomentFormat moments = MomentFormat::kFp32;
  MasterFormat master = MasterFormat::kFp32;

  [[nodiscard]] CpuAdamOptions options(double lr = 1e-2) const {
    return CpuAdamOptions(lr).moments(moments).master(master);
  }
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

std::vector<Kind> kinds() {
  std::vector<Kind> all;
  for (const auto& [type, type_name] : {std::pair{torch::kFloat32, "fp32"},
                                        {torch::kBFloat16, "bf16"},
                                        {torch::kFloat16, "fp16"}}) {
    for (const MomentFormat moments :
         {MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8}) {
      all.push_back(
          {std::string(type_name) + "_moments_" + std::string(name_of(moments)), type, moments});
    }
  }
  all.push_back(
      {"bf16_24bit_moments_int8", torch::kBFloat16, MomentFormat::kInt8, MasterFormat::k24Bit});
  return all;
}

/// Parameters whose sizes are no multiples of blocks or vectors, and one that is a single number.
Tensors make_parameters(torch::ScalarType type) {
  torch::manual_seed(3);
  Tensors parameters;
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{37, 41}, {41}, {41, 3}, {1}}) {
    parameters.push_back((torch::randn(shape) * 0.3).to(type).requires_grad_());
  }
  return parameters;
}

/// A regression; the data are those of `step`.
torch::Tensor loss_of(const Tensors& parameters, std::int64_t step) {
  torch::manual_seed(static_cast<std::uint64_t>(100 + step));
  const torch::Tensor x = torch::randn({32, 37}).to(parameters[0].scalar_type());
  const torch::Tensor y =
      torch::tanh(x.matmul(parameters[0]) + parameters[1]).matmul(parameters[2]) * parameters[3];
  return torch::mse_loss(y, x.slice(1, 0, 3));
}

/// Steps [begin, end).
void train(torch::optim::Optimizer& optimizer, const Tensors& parameters, std::int64_t begin,
           std::int64_t end) {
  for (std::int64_t step = begin; step < end; ++step) {
    optimizer.zero_grad();
    loss_of(parameters, step).backward();
    optimizer.step();
  }
}

Tensors copies_of(const Tensors& parameters) {
  Tensors copies;
  for (const torch::Tensor& each : parameters) {
    copies.push_back(each.detach().clone().requires_grad_());
  }
  return copies;
}

void expect_equal(const Tensors& a, const Tensors& b) {
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i])) << i;
}

/// Copies an optimizer's state by way of an archive.
void copy_state(const torch::optim::Optimizer& from, torch::optim::Optimizer& to) {
  std::stringstream bytes;
  torch::serialize::OutputArchive out;
  from.save(out);
  out.save_to(bytes);
  torch::serialize::InputArchive in;
  in.load_from(bytes);
  to.load(in);
}

class CpuAdamKinds : public testing::TestWithParam<Kind> {};

TEST_P(CpuAdamKinds, LearnsAsTorchsAdamWDoes) {
  const Tensors ours = make_parameters(GetParam().type);
  CpuAdam optimizer(ours, GetParam().options());
  train(optimizer, ours, 0, 120);
  const Tensors theirs = make_parameters(torch::kFloat32);
  torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(1e-2));
  train(reference, theirs, 0, 120);
  const auto begun = loss_of(make_parameters(torch::kFloat32), 1000).item<double>();
  const auto loss = loss_of(ours, 1000).item<double>();
  const auto wanted = loss_of(theirs, 1000).item<double>();
  EXPECT_LT(wanted, 0.5 * begun);
  EXPECT_NEAR(loss, wanted, 0.1 * wanted);
}

TEST_P(CpuAdamKinds, ResumesFromAnArchiveWithTheSameBits) {
  const Tensors straight = make_parameters(GetParam().type);
  CpuAdam optimizer(straight, GetParam().options());
  train(optimizer, straight, 0, 5);
  const Tensors resumed = copies_of(straight);
  CpuAdam other(resumed);
  copy_state(optimizer, other);
  train(optimizer, straight, 5, 10);
  train(other, resumed, 5, 10);
  expect_equal(resumed, straight);
}

TEST_P(CpuAdamKinds, GivesTheSameBitsWithAnyNumberOfThreads) {
  const Tensors one = {torch::linspace(-1, 1, 100'003).to(GetParam().type).requires_grad_()};
  const Tensors three = copies_of(one);
  CpuAdam first(one, GetParam().options(), /*threads=*/1);
  CpuAdam second(three, GetParam().options(), /*threads=*/3);
  for (int step = 0; step < 3; ++step) {
    for (const Tensors& each : {one, three}) each[0].mutable_grad() = each[0].detach().sin();
    first.step();
    second.step();
  }
  expect_equal(three, one);
}

TEST_P(CpuAdamKinds, TreatsTheEndOfAParameterAsItsBeginning) {
  for (const std::int64_t count : {1, 63, 64, 65, 200}) {
    // Puts the same numbers at the front of a parameter of whole blocks.
    torch::manual_seed(1);
    torch::Tensor whole = torch::zeros({256});
    whole.slice(0, 0, count).normal_();
    const Tensors padded = {whole.to(GetParam().type).requires_grad_()};
    const Tensors bare = {padded[0].detach().slice(0, 0, count).clone().requires_grad_()};
    CpuAdam first(padded, GetParam().options()), second(bare, GetParam().options());
    for (int step = 0; step < 4; ++step) {
      padded[0].mutable_grad() = padded[0].detach().cos() * (padded[0].detach() != 0);
      bare[0].mutable_grad() = padded[0].grad().slice(0, 0, count).clone();
      first.step();
      second.step();
    }
    expect_equal(bare, {padded[0].slice(0, 0, count)});
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, CpuAdamKinds, testing::ValuesIn(kinds()),
                         [](const auto& tested) { return tested.param.name; });

TEST(CpuAdam, KeepsUpdatesThatABf16WeightCannotShow) {
  for (const MasterFormat master : {MasterFormat::kFp32, MasterFormat::k24Bit}) {
    const Tensors parameters = {torch::ones({4096}, torch::kBFloat16).requires_grad_()};
    CpuAdam optimizer(parameters, CpuAdamOptions(1e-4).weight_decay(0).master(master));
    for (int step = 0; step < 100; ++step) {  // to bf16, each of the changes is nothing
      parameters[0].mutable_grad() = torch::ones({4096}, torch::kBFloat16);
      optimizer.step();
    }
    EXPECT_NEAR(parameters[0].to(torch::kFloat32).mean().item<double>(), 1 - 100 * 1e-4, 2e-3);
  }
}

TEST(CpuAdam, FollowsSchedulersAndGroupsAsTorchsAdamWDoes) {
  const Tensors ours = make_parameters(torch::kFloat32);
  const Tensors theirs = copies_of(ours);
  std::vector<torch::optim::OptimizerParamGroup> our_groups, their_groups;
  our_groups.emplace_back(Tensors{ours[0], ours[2]});
  our_groups.emplace_back(Tensors{ours[1], ours[3]},
                          std::make_unique<CpuAdamOptions>(CpuAdamOptions(3e-2).weight_decay(0)));
  their_groups.emplace_back(Tensors{theirs[0], theirs[2]});
  their_groups.emplace_back(Tensors{theirs[1], theirs[3]},
                            std::make_unique<torch::optim::AdamWOptions>(
                                torch::optim::AdamWOptions(3e-2).weight_decay(0)));
  CpuAdam optimizer(our_groups, CpuAdamOptions(1e-2));
  torch::optim::AdamW reference(their_groups, torch::optim::AdamWOptions(1e-2));
  torch::optim::StepLR schedule(optimizer, 3, 0.5), reference_schedule(reference, 3, 0.5);
  for (int step = 0; step < 12; ++step) {
    train(optimizer, ours, step, step + 1);
    train(reference, theirs, step, step + 1);
    schedule.step();
    reference_schedule.step();
    for (std::size_t group = 0; group < 2; ++group) {
      EXPECT_EQ(optimizer.param_groups()[group].options().get_lr(),
                reference.param_groups()[group].options().get_lr());
    }
  }
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(torch::allclose(ours[i], theirs[i], 1e-5, 1e-6)) << i;
  }
}

TEST(CpuAdam, ReturnsTheLossOfItsClosureAndSkipsWhatHasNoGradient) {
  const Tensors parameters = make_parameters(torch::kFloat32);
  const torch::Tensor unused = torch::ones({5}, torch::requires_grad());
  Tensors all = parameters;
  all.push_back(unused);
  CpuAdam optimizer(all);
  const torch::Tensor loss = optimizer.step([&] {
    optimizer.zero_grad();
    torch::Tensor value = loss_of(parameters, 0);
    value.backward();
    return value;
  });
  EXPECT_EQ(loss.item<double>(), loss_of(make_parameters(torch::kFloat32), 0).item<double>());
  EXPECT_TRUE(torch::equal(unused, torch::ones({5})));
  EXPECT_FALSE(torch::equal(parameters[0], make_parameters(torch::kFloat32)[0]));
}

TEST(CpuAdam, TellsAutogradThatAParameterChanged) {
  const torch::Tensor parameter = torch::ones({3}, torch::requires_grad());
  CpuAdam optimizer(Tensors{parameter});
  const torch::Tensor loss = parameter.square().sum();
  parameter.mutable_grad() = torch::ones({3});
  optimizer.step();
  EXPECT_THROW(loss.backward(), c10::Error);
}

std::string refusal_of(const torch::Tensor& parameter, const torch::Tensor& gradient) {
  const torch::Tensor good = torch::ones({3}, torch::requires_grad());
  CpuAdam optimizer(Tensors{good, parameter});
  good.mutable_grad() = torch::ones({3});
  parameter.mutable_grad() = gradient;
  try {
    optimizer.step();
  } catch (const UsageError& error) {
    EXPECT_TRUE(torch::equal(good, torch::ones({3}))) << "something was changed";
    return error.what();
  }
  return "accepted";
}

TEST(CpuAdam, RefusesWhatItCannotUpdateBeforeItChangesAnything) {
  const torch::Tensor transposed = torch::ones({3, 4}).t().detach().requires_grad_();
  EXPECT_THAT(refusal_of(transposed, torch::ones({4, 3})),
              testing::AllOf(HasSubstr("parameter 1"), HasSubstr("not contiguous")));
  const torch::Tensor table = torch::ones({3, 4}, torch::requires_grad());
  EXPECT_THAT(refusal_of(table, torch::ones({3, 4}).to_sparse()), HasSubstr("is sparse"));
  const torch::Tensor wide = torch::ones({3}, torch::dtype(torch::kFloat64).requires_grad(true));
  EXPECT_THAT(refusal_of(wide, torch::ones({3}, torch::kFloat64)), HasSubstr("float"));
  const torch::Tensor meta =
      torch::ones({3}, torch::dtype(torch::kFloat32).device(torch::kMeta).requires_grad(true));
  EXPECT_THAT(refusal_of(meta, torch::ones({3}, torch::device(torch::kMeta))), HasSubstr("meta"));
}

TEST(CpuAdam, TakesAGradientThatIsNotContiguous) {
  const torch::Tensor a = torch::ones({3, 4}, torch::requires_grad());
  const torch::Tensor b = torch::ones({3, 4}, torch::requires_grad());
  const torch::Tensor gradient = torch::arange(12.0).reshape({4, 3}).t();
  a.mutable_grad() = gradient;
  b.mutable_grad() = gradient.contiguous();
  CpuAdam optimizer(Tensors{a, b});
  optimizer.step();
  EXPECT_TRUE(torch::equal(a, b));
}

TEST(CpuAdam, RefusesTheStateOfAnotherModelOrFormat) {
  const Tensors parameters = make_parameters(torch::kFloat32);
  CpuAdam optimizer(parameters);
  train(optimizer, parameters, 0, 1);
  const Tensors narrow = make_parameters(torch::kBFloat16);
  CpuAdam other(narrow);
  copy_state(optimizer, other);
  EXPECT_THROW(train(other, narrow, 0, 1), UsageError);
  static_cast<CpuAdamOptions&>(optimizer.param_groups()[0].options()).moments(MomentFormat::kInt8);
  EXPECT_THROW(train(optimizer, parameters, 1, 2), UsageError);
}

TEST(CpuAdam, RefusesHyperparametersOutOfRange) {
  const Tensors parameters = make_parameters(torch::kFloat32);
  EXPECT_THROW(CpuAdam(parameters, CpuAdamOptions(-1)), ConfigError);
  EXPECT_THROW(CpuAdam(parameters, CpuAdamOptions().betas({0.9, 1.0})), ConfigError);
  CpuAdam optimizer(parameters);
  optimizer.param_groups()[0].options().set_lr(-1);
  EXPECT_THROW(train(optimizer, parameters, 0, 1), ConfigError);
}

}  // namespace
}  // namespace strata
