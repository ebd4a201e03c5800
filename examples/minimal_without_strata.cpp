// The loop of minimal.cpp with everything in memory: `diff` the two.
#include <torch/torch.h>

#include <cstdio>

class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(int width)
      : norm_(register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})))),
        up_(register_module("up", torch::nn::Linear(width, 4 * width))),
        down_(register_module("down", torch::nn::Linear(4 * width, width))) {}

  torch::Tensor forward(torch::Tensor x) { return x + down_(torch::gelu(up_(norm_(x)))); }

 private:
  torch::nn::LayerNorm norm_;
  torch::nn::Linear up_, down_;
};
TORCH_MODULE(Block);

int main() {
  torch::manual_seed(1);

  std::vector<Block> blocks;
  std::vector<torch::Tensor> parameters;
  for (int i = 0; i < 4; ++i) {
    blocks.push_back(Block(64));
    for (auto& parameter : blocks.back()->parameters()) parameters.push_back(parameter);
  }
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-3).weight_decay(0.01));

  for (int step = 1; step <= 10; ++step) {
    auto x = torch::randn({32, 64}), target = x.sin();
    auto y = x;
    for (auto& block : blocks) y = block->forward(y);
    auto loss = torch::mse_loss(y, target);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    std::printf("step %d loss %.8f\n", step, loss.item<double>());
  }
}
