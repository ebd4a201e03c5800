// The extension module strata._core: what the package needs of C++, with addresses for tensors.
// strata/_optimizer.py is the only caller; it keeps the tensors alive.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "errors.h"
#include "machine.h"
#include "named.h"
#include "offloaded_optimizer.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/optimizer.h"
#include "strata/tiering/checksum.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT(google-build-using-namespace): _a

namespace strata::python {
namespace {

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

Precision precision_named(const std::string& name) {
  return named(name, "precision", {Precision::kFp32, Precision::kBf16, Precision::kFp16});
}

MomentFormat moments_named(const std::string& name) {
  return named(name, "moments", {MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8});
}

MasterFormat master_named(const std::string& name) {
  return named(name, "master", {MasterFormat::kFp32, MasterFormat::k24Bit});
}

StateKind kind_named(const std::string& name) {
  return named(name, "state", {StateKind::kMaster, StateKind::kM, StateKind::kV});
}

BankOptions bank_options(const std::vector<std::string>& directories,
                         const optim::OptimizerOptions& rule, const std::string& moments,
                         const std::string& master, std::uint64_t host_bytes,
                         std::optional<std::uint64_t> nvme_bytes, int threads,
                         const std::string& io, std::uint64_t window_elements) {
  BankOptions options;
  options.directories.assign(directories.begin(), directories.end());
  options.host_bytes = host_bytes;
  if (nvme_bytes) options.nvme_bytes = *nvme_bytes;
  options.moments = moments_named(moments);
  options.master = master_named(master);
  options.has_m = optim::keeps_m(rule);
  options.has_v = optim::keeps_v(rule);
  options.threads = threads;
  options.io = io_named(io);
  options.window_elements = window_elements;
  return options;
}

using GradientTuple = std::tuple<std::uintptr_t, std::uint64_t, std::string>;
using LentTuple = std::tuple<std::size_t, std::uintptr_t, std::uintptr_t, bool>;
using ParameterTuple =
    std::tuple<std::string, std::vector<std::int64_t>, std::string, std::uint32_t>;
using SavedTuple = std::tuple<std::string, std::size_t, std::string>;

std::vector<SavedTensor> saved_tensors(const std::vector<SavedTuple>& tuples) {
  std::vector<SavedTensor> tensors;
  tensors.reserve(tuples.size());
  for (const auto& [name, parameter, kind] : tuples) {
    tensors.push_back({name, parameter, kind_named(kind)});
  }
  return tensors;
}

/// The C++ optimizer on states in memory: what an offloaded step has to equal.
void update_in_memory(const optim::OptimizerOptions& rule, const std::string& precision,
                      const std::string& moments, const std::string& master, std::int64_t step,
                      std::uint64_t count, const std::vector<std::uintptr_t>& states,
                      std::uintptr_t gradient, const std::string& gradient_precision,
                      double gradient_scale, std::uint64_t sequence) {
  StateFormat format(precision_named(precision));
  format.moments = moments_named(moments);
  format.master = master_named(master);
  optim_cpu::ComputeThreads threads(1);
  const optim::Optimizer optimizer(rule, format, threads);
  const auto state = [&](std::size_t i, StateKind kind) -> std::span<std::byte> {
    return {at<std::byte>(states.at(i)), optimizer.bytes(kind, count)};
  };
  const Precision of_gradient = precision_named(gradient_precision);
  optimizer.step(step,
                 {state(0, StateKind::kWeight), state(1, StateKind::kMaster),
                  state(2, StateKind::kM), state(3, StateKind::kV)},
                 {at<const std::byte>(gradient), count * weight_bytes(of_gradient)}, of_gradient,
                 static_cast<float>(gradient_scale), sequence);
}

void bind_rules(nb::module_& module) {
  nb::class_<optim::AdamOptions>(module, "AdamRule")
      .def(
          "__init__",
          [](optim::AdamOptions* self, double lr, double beta1, double beta2, double eps,
             double weight_decay, bool decoupled, bool bias_correction) {
            new (self)
                optim::AdamOptions{lr, beta1, beta2, eps, weight_decay, decoupled, bias_correction};
            optim::check(*self);
          },
          nb::kw_only(), "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a,
          "decoupled_weight_decay"_a, "bias_correction"_a = true);
  nb::class_<optim::SgdOptions>(module, "SgdRule")
      .def(
          "__init__",
          [](optim::SgdOptions* self, double lr, double momentum, double dampening,
             double weight_decay, bool nesterov) {
            new (self) optim::SgdOptions{lr, momentum, dampening, weight_decay, nesterov};
            optim::check(*self);
          },
          nb::kw_only(), "lr"_a, "momentum"_a, "dampening"_a, "weight_decay"_a, "nesterov"_a);
  nb::class_<optim::AdagradOptions>(module, "AdagradRule")
      .def(
          "__init__",
          [](optim::AdagradOptions* self, double lr, double lr_decay, double eps,
             double weight_decay) {
            new (self) optim::AdagradOptions{lr, lr_decay, eps, weight_decay};
            optim::check(*self);
          },
          nb::kw_only(), "lr"_a, "lr_decay"_a, "eps"_a, "weight_decay"_a);
  nb::class_<optim::LionOptions>(module, "LionRule")
      .def(
          "__init__",
          [](optim::LionOptions* self, double lr, double beta1, double beta2, double weight_decay) {
            new (self) optim::LionOptions{lr, beta1, beta2, weight_decay};
            optim::check(*self);
          },
          nb::kw_only(), "lr"_a, "beta1"_a, "beta2"_a, "weight_decay"_a);
}

void bind_usage(nb::module_& module) {
  nb::class_<BankUsage>(module, "Usage", "Bytes that an optimizer holds and has moved.")
      .def_ro("host_bytes", &BankUsage::host_bytes)
      .def_ro("host_peak", &BankUsage::host_peak)
      .def_ro("nvme_bytes", &BankUsage::nvme_bytes)
      .def_ro("states_in_host", &BankUsage::states_in_host)
      .def_ro("states_on_nvme", &BankUsage::states_on_nvme)
      .def_ro("bytes_fetched", &BankUsage::bytes_fetched)
      .def_ro("bytes_flushed", &BankUsage::bytes_flushed)
      .def_ro("io", &BankUsage::io);
}

/// As Python owns it: its end may wait for a disk, and lets other Python threads run meanwhile.
class OwnedByPython : public OffloadedOptimizer {
 public:
  using OffloadedOptimizer::OffloadedOptimizer;
  ~OwnedByPython() {
    const nb::gil_scoped_release released;
    drop();
  }
};

void bind_optimizer(nb::module_& module) {
  // Everything that may wait lets other Python threads run.
  using Released = nb::call_guard<nb::gil_scoped_release>;
  nb::class_<OwnedByPython>(module, "OffloadedOptimizer")
      .def(
          "__init__",
          [](OwnedByPython* self, const std::vector<std::string>& directories,
             const optim::OptimizerOptions& rule, const std::string& moments,
             const std::string& master, std::uint64_t host_bytes,
             std::optional<std::uint64_t> nvme_bytes, int threads, const std::string& io,
             std::uint64_t window_elements) {
            new (self)
                OffloadedOptimizer(bank_options(directories, rule, moments, master, host_bytes,
                                                nvme_bytes, threads, io, window_elements));
          },
          nb::kw_only(), "directories"_a, "rule"_a, "moments"_a, "master"_a, "host_bytes"_a,
          "nvme_bytes"_a.none(), "threads"_a, "io"_a, "window_elements"_a, Released())
      .def("close", &OwnedByPython::close, Released())
      .def_prop_ro("is_closed", &OwnedByPython::is_closed)
      .def(
          "add",
          [](OwnedByPython& self, const std::vector<ParameterTuple>& tuples) {
            std::vector<NewParameter> parameters;
            parameters.reserve(tuples.size());
            for (const auto& [name, shape, precision, group] : tuples) {
              parameters.push_back({name, shape, precision_named(precision), group});
            }
            self.add(parameters);
          },
          Released())
      .def("usage", &OwnedByPython::usage, Released())
      .def(
          "norm",
          [](OwnedByPython& self, const std::vector<GradientTuple>& tuples) {
            std::vector<LentGradient> gradients;
            gradients.reserve(tuples.size());
            for (const auto& [address, count, precision] : tuples) {
              gradients.push_back(
                  {at<const std::byte>(address), count, precision_named(precision)});
            }
            return self.norm(gradients);
          },
          Released())
      .def("begin", &OwnedByPython::begin, Released())
      .def(
          "submit",
          [](OwnedByPython& self, const std::vector<LentTuple>& tuples) {
            std::vector<LentParameter> parameters;
            parameters.reserve(tuples.size());
            for (const auto& [index, weight, gradient, gradient_fp32] : tuples) {
              parameters.push_back(
                  {index, at<std::byte>(weight), at<const std::byte>(gradient), gradient_fp32});
            }
            return self.submit(parameters);
          },
          Released())
      .def("wait_for", &OwnedByPython::wait_for, Released())
      .def("finish", &OwnedByPython::finish, Released())
      .def_prop_ro("is_open", &OwnedByPython::is_open)
      .def("steps", &OwnedByPython::steps)
      .def("set_steps", &OwnedByPython::set_steps)
      .def("state_size",
           [](OwnedByPython& self, std::size_t parameter, const std::string& kind) {
             return self.state_size(parameter, kind_named(kind));
           })
      .def(
          "read",
          [](OwnedByPython& self, std::size_t parameter, const std::string& kind,
             std::uintptr_t target) {
            self.read(parameter, kind_named(kind), at<std::byte>(target));
          },
          Released())
      .def(
          "write",
          [](OwnedByPython& self, std::size_t parameter, const std::string& kind,
             std::uintptr_t source) {
            self.write(parameter, kind_named(kind), at<const std::byte>(source));
          },
          Released())
      .def(
          "adopt",
          [](OwnedByPython& self, std::size_t parameter, std::uintptr_t weight) {
            self.adopt(parameter, at<const std::byte>(weight));
          },
          Released())
      .def("forget", &OwnedByPython::forget, Released())
      .def(
          "save",
          [](OwnedByPython& self, const std::string& directory,
             const std::vector<SavedTuple>& tensors, std::uint64_t file_bytes,
             const std::string& manifest_name, const std::string& manifest) {
            self.save(directory, saved_tensors(tensors), file_bytes, manifest_name, manifest);
          },
          Released())
      .def(
          "check",
          [](OwnedByPython& self, const std::string& directory,
             const std::vector<SavedTuple>& tensors) {
            self.check(directory, saved_tensors(tensors));
          },
          Released())
      .def(
          "load",
          [](OwnedByPython& self, const std::string& directory,
             const std::vector<SavedTuple>& tensors) {
            self.load(directory, saved_tensors(tensors));
          },
          Released())
      .def("abandon", &OwnedByPython::abandon, Released())
      .def("recover", &OwnedByPython::recover, Released());
}

}  // namespace
}  // namespace strata::python

NB_MODULE(_core, module) {
  using namespace strata::python;  // NOLINT(google-build-using-namespace): of this file
  module.doc() = "C++ part of the package strata; not for programs.";
  bind_errors(module);
  bind_rules(module);
  bind_usage(module);
  bind_optimizer(module);
  bind_machine(module);
  module.def("update_in_memory", &update_in_memory, nb::call_guard<nb::gil_scoped_release>());
  module.def("parse_bytes", [](const std::string& text) { return strata::parse_bytes(text); });
  module.def(
      "checksum",
      [](std::uintptr_t address, std::uint64_t bytes) {
        return strata::tiering::chunk_checksum(0, 0, {at<const std::byte>(address), bytes});
      },
      nb::call_guard<nb::gil_scoped_release>());
}
