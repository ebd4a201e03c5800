#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <sstream>

#include "simulated_accelerator/simulated_accelerator.h"
#include "simulated_accelerator/small_modules.h"

namespace strata::simulated {
namespace {

using testing::IsEmpty;
using torch::Tensor;
using torch::indexing::Slice;

/// Kinds of operators that differ in what is known of their results before they are done.
class OperatorsOfTheSimulatedAccelerator : public testing::Test {
 protected:
  /// Computes with `x_` on both devices.
  template <typename Function>
  void expect_bits_of_the_cpu(const Function& function) {
    expect_same_bits(std::vector<Tensor>(function(x_.clone())),
                     std::vector<Tensor>(function(x_.to(device_))));
  }

  void SetUp() override {
    torch::manual_seed(11);
    x_ = torch::randn({6, 8});
  }
  void TearDown() override { EXPECT_THAT(accelerator_.races(), IsEmpty()); }

  const c10::Device device_ = SimulatedAccelerator::torch_device();
  SimulatedAccelerator accelerator_;
  Tensor x_;
};

using Tensors = std::vector<Tensor>;

TEST_F(OperatorsOfTheSimulatedAccelerator, WithSeveralResultsHaveTheBitsOfTheCpu) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    const auto [values, order] = x.sort(1);
    const auto [most, where] = x.topk(3, 1);
    return Tensors{values, order, most, where};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, WhoseShapesDependOnValuesHaveTheBitsOfTheCpu) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    return Tensors{x.nonzero(), x.masked_select(x > 0), x.index({x > 0.5})};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, WithListsOfTensorsHaveTheBitsOfTheCpu) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    const Tensors pieces = x.split(2);
    return Tensors{torch::cat({pieces[2], pieces[0]}), torch::stack(pieces)};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, OnViewsHaveTheBitsOfTheCpu) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    x.index({Slice(), Slice(1, 6, 2)}).mul_(3);
    x.select(0, 2).fill_(7);
    x.diagonal().zero_();
    return Tensors{x, x.t().contiguous(), x.unfold(1, 3, 2).sum(-1), x.view({8, 6}).clone()};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, WithIndicesHaveTheBitsOfTheCpuWhereverThoseAre) {
  const Tensor indices = torch::tensor({4, 0, 4});
  expect_bits_of_the_cpu([&](const Tensor& x) {
    const Tensor here = indices.to(x.device());
    Tensor put = x.clone();
    put.index_put_({here}, x.index({indices}), /*accumulate=*/true);
    return Tensors{x.index({here}), x.index_select(0, here), put, torch::where(x > 0, x, -x)};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, WithAnArgumentForTheResultResizeIt) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    Tensor sum = torch::empty({0}, x.options());
    Tensor norm = torch::empty({0}, x.options());
    torch::add_out(sum, x, x);
    torch::linalg_vector_norm_out(norm, x, 2, 1);
    return Tensors{sum, norm};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, ConvertTypesAsTheCpuDoes) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    return Tensors{x.to(torch::kBFloat16), x.to(torch::kHalf).to(torch::kFloat),
                   (x * 100).to(torch::kInt), x.to(torch::kDouble) + 1};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, UpdateTheStatisticsOfABatchNorm) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    torch::nn::BatchNorm1d norm(8);
    norm->to(x.device());
    const Tensor y = norm->forward(x);
    y.pow(3).sum().backward();
    norm->eval();
    return Tensors{y.detach(), norm->running_mean, norm->running_var, norm->weight.grad(),
                   norm->forward(x).detach()};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, ClipGradientsAsTheCpuDoes) {
  expect_bits_of_the_cpu([](const Tensor& x) {
    const Tensor weights = torch::ones({8, 3}, x.options()).set_requires_grad(true);
    torch::matmul(x, weights).pow(2).sum().backward();
    torch::nn::utils::clip_grad_norm_({weights}, 1.0);
    return Tensors{weights.grad()};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, RunAnLstmForwardAndBackward) {
  const auto run = [&](const Tensor& x) {
    torch::manual_seed(12);
    torch::nn::LSTM lstm(8, 5);
    lstm->to(x.device());
    const Tensor y = std::get<0>(lstm->forward(x.unsqueeze(1)));
    y.sum().backward();
    return Tensors{y.detach().cpu(), lstm->parameters()[0].grad().cpu()};
  };
  const Tensors on_cpu = run(x_);  // computed by another library there
  const Tensors on_device = run(x_.to(device_));
  EXPECT_TRUE(torch::allclose(on_cpu[0], on_device[0]));
  EXPECT_TRUE(torch::allclose(on_cpu[1], on_device[1]));
}

TEST_F(OperatorsOfTheSimulatedAccelerator, SaveAndLoadATensor) {
  std::stringstream file;
  torch::save(x_.to(device_), file);
  Tensor loaded;
  torch::load(loaded, file);
  expect_same_bits(x_, loaded);
}

}  // namespace
}  // namespace strata::simulated
