#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <sstream>

#include "simulated_accelerator/simulated_accelerator.h"
#include "simulated_accelerator/small_modules.h"

namespace strata::simulated::operators_test {
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
  for (const bool bidirectional : {false, true}) {
    expect_bits_of_the_cpu([&](const Tensor& x) {
      torch::manual_seed(12);
      torch::nn::LSTM lstm(torch::nn::LSTMOptions(8, 5).num_layers(2).bidirectional(bidirectional));
      lstm->to(x.device());
      const auto [y, state] = lstm->forward(x.unsqueeze(1));
      (y.sum() + std::get<1>(state).pow(2).sum()).backward();
      Tensors results{y.detach()};
      for (const Tensor& parameter : lstm->parameters()) results.push_back(parameter.grad());
      return results;
    });
  }
}

TEST_F(OperatorsOfTheSimulatedAccelerator, NormalizeBatchesAndKeepTheirStatistics) {
  expect_bits_of_the_cpu([&](const Tensor& x) {
    torch::nn::BatchNorm2d norm(3);
    norm->to(x.device());
    const Tensor input = x.view({2, 3, 2, 4}).detach().set_requires_grad(true);
    norm->forward(input).pow(3).sum().backward();
    return Tensors{input.grad(), norm->weight.grad(), norm->bias.grad(), norm->running_mean,
                   norm->running_var};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, RunConvolutionsOfBatchesForwardAndBackward) {
  expect_bits_of_the_cpu([&](const Tensor& x) {
    torch::manual_seed(13);
    torch::nn::Conv2d convolution(torch::nn::Conv2dOptions(1, 3, 3));
    convolution->to(x.device());
    const Tensor y = convolution->forward(x.view({2, 1, 4, 6}));
    y.pow(2).sum().backward();
    return Tensors{y.detach(), convolution->weight.grad(), convolution->bias.grad()};
  });
}

TEST_F(OperatorsOfTheSimulatedAccelerator, RunConvolutionsForwardAndBackward) {
  for (const int dilation : {1, 2}) {
    expect_bits_of_the_cpu([&](const Tensor& x) {
      torch::manual_seed(13);
      torch::nn::Conv2d convolution(
          torch::nn::Conv2dOptions(2, 4, 3).padding(2).groups(2).dilation(dilation));
      convolution->to(x.device());
      const Tensor y = convolution->forward(x.flatten().slice(0, 0, 32).view({1, 2, 4, 4}));
      y.pow(2).sum().backward();
      return Tensors{y.detach(), convolution->weight.grad(), convolution->bias.grad()};
    });
  }
}

TEST_F(OperatorsOfTheSimulatedAccelerator, SaveAndLoadATensor) {
  std::stringstream file;
  torch::save(x_.to(device_), file);
  Tensor loaded;
  torch::load(loaded, file);
  expect_same_bits(x_, loaded);
}

}  // namespace
}  // namespace strata::simulated::operators_test
