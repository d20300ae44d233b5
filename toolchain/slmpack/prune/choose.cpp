#include <algorithm>
#include <numeric>

#include "prune.h"

namespace slmd::pack {
namespace {

std::vector<std::uint32_t> dearest(const std::vector<double>& prices, std::uint32_t count) {
    std::vector<std::uint32_t> order(prices.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return prices[a] > prices[b]; });
    order.resize(count);
    std::sort(order.begin(), order.end());
    return order;
}

}  // namespace

Result<Kept> choose(const Prices& prices, std::uint32_t layers, std::uint32_t channels) {
    constexpr std::uint32_t group = 32;  // of a row's codes in an image
    const auto all_layers = static_cast<std::uint32_t>(prices.layers.size()),
               all_channels = static_cast<std::uint32_t>(prices.channels[0].size());
    if (layers == 0) layers = all_layers;
    if (channels == 0) channels = all_channels;
    if (layers > all_layers)
        return Error::make(Code::incorrect_parameters, "%u layers are to be left: the model has %u", layers,
                           all_layers);
    if (channels > all_channels)
        return Error::make(Code::incorrect_parameters, "%u channels are to be left: the model has %u", channels,
                           all_channels);
    if (channels % group != 0)
        return Error::make(Code::incorrect_parameters, "%u channels: an image has them in groups of %u; take %u",
                           channels, group, std::max(group, channels / group * group));
    Kept kept{dearest(prices.layers, layers), {}};
    for (const std::uint32_t layer : kept.layers) kept.channels.push_back(dearest(prices.channels[layer], channels));
    return kept;
}

}  // namespace slmd::pack
