#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;
using T = StrataConfig;

// All backends but the last, which moves nothing.
constexpr std::span kIoBackends = std::span(kIoBackendNames).first<4>();
constexpr std::array<std::string_view, 3> kMomentFormats = {
    name_of(MomentFormat::kFp32), name_of(MomentFormat::kBf16), name_of(MomentFormat::kInt8)};
constexpr std::array<std::string_view, 2> kMasterFormats = {name_of(MasterFormat::kFp32),
                                                            name_of(MasterFormat::k24Bit)};

// In the order of NonfinitePolicy.
constexpr std::array<std::string_view, 3> kNonfinitePolicies = {"", "error", "skip"};

// In the order of NvmeOfRanks.
constexpr std::array<std::string_view, 2> kNvmeOfRanks = {"striped", "own"};

constexpr ConfigKey kStrataKeys[] = {
    key("strata.budget.device", OptionalBytesField{at<&C::strata, &T::device_budget_bytes>}),
    key("strata.budget.host", OptionalBytesField{at<&C::strata, &T::host_budget_bytes>}),
    key("strata.budget.nvme", OptionalBytesField{at<&C::strata, &T::nvme_budget_bytes>}),
    key("strata.nvme", PathListField{at<&C::strata, &T::nvme_directories>}),
    key("strata.nvme_of_ranks", choice<&C::strata, &T::nvme_of_ranks>(kNvmeOfRanks)),
    key("strata.io", choice<&C::strata, &T::io>(kIoBackends)),
    key("strata.no_decay", TextListField{at<&C::strata, &T::no_decay>}),
    key("strata.keep_fp32", TextListField{at<&C::strata, &T::keep_fp32>}),
    key("strata.freeze", TextListField{at<&C::strata, &T::freeze>}),
    key("strata.parameter_groups", ParameterGroupsField{}),
    key("strata.recompute", OptionalBoolField{at<&C::strata, &T::recompute>, /*open_is_auto=*/true})
        .or_auto([](C& c) { c.strata.recompute.reset(); }),
    key("strata.activations.host", OptionalBytesField{at<&C::strata, &T::activations_host_bytes>}),
    key("strata.activations.nvme", OptionalBytesField{at<&C::strata, &T::activations_nvme_bytes>}),
    key("strata.chunk_bytes", BytesField{at<&C::strata, &T::chunk_bytes>, 4096}),
    key("strata.tile_bytes", OptionalBytesField{at<&C::strata, &T::tile_bytes>}).or_auto(),
    key("strata.window_elements",
        elements(at<&C::strata, &T::window_elements>, 0, window_element_bytes)),
    key("strata.overlap_step", BoolField{at<&C::strata, &T::overlap_step>}),
    key("strata.step_under_backward", BoolField{at<&C::strata, &T::step_under_backward>}),
    key("strata.host_cache", BoolField{at<&C::strata, &T::host_cache>}),
    key("strata.threads", whole(at<&C::strata, &T::threads>, 0, 4096)),
    key("strata.states.moments",
        choice<&C::strata, &T::states, &StatesConfig::moments>(kMomentFormats)),
    key("strata.states.master",
        choice<&C::strata, &T::states, &StatesConfig::master>(kMasterFormats)),
    key("strata.nonfinite", choice<&C::strata, &T::nonfinite>(kNonfinitePolicies)),
    key("strata.simd", TextField{at<&C::strata, &T::simd>}),
};

}  // namespace

std::span<const ConfigKey> strata_keys() { return kStrataKeys; }

}  // namespace strata::formats
