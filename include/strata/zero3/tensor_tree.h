#pragma once

#include <torch/torch.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

/// \file
/// Finding the tensors in what a module takes and returns: a tensor, an optional, pair, tuple,
/// array, vector, map, unordered_map or torch::OrderedDict of what has tensors, nested as deep as
/// you like. Everything else has none. A type of your own takes part when a function
///
///     template <class Visit>
///     void visit_tensors(MyOutput& value, Visit&& visit) {
///       visit(value.logits);
///       visit(value.loss);
///     }
///
/// is found in its namespace; it visits the same members in the same order every time.

namespace strata {

/// How the tensors of a `T` are visited, in a fixed order. `kHasTensors`: whether it can have any.
template <class T>
struct TensorTree {
  static constexpr bool kHasTensors = false;
  template <class Visit>
  static void visit(T& /*value*/, Visit& /*visit*/) {}
};

template <>
struct TensorTree<torch::Tensor> {
  static constexpr bool kHasTensors = true;
  template <class Visit>
  static void visit(torch::Tensor& tensor, Visit& visit) {
    visit(tensor);
  }
};

namespace detail {
struct AnyTensorVisit {
  template <class Tensor>
  void operator()(Tensor&) const {}
};
}  // namespace detail

template <class T>
requires requires(T& value, detail::AnyTensorVisit& visitor) { visit_tensors(value, visitor); }
struct TensorTree<T> {
  static constexpr bool kHasTensors = true;
  template <class Visit>
  static void visit(T& value, Visit& visit) {
    auto each = [&visit]<class Member>(Member& member) {
      TensorTree<Member>::visit(member, visit);
    };
    visit_tensors(value, each);
  }
};

template <class T>
struct TensorTree<std::optional<T>> {
  static constexpr bool kHasTensors = TensorTree<T>::kHasTensors;
  template <class Visit>
  static void visit(std::optional<T>& value, Visit& visit) {
    if (value) TensorTree<T>::visit(*value, visit);
  }
};

namespace detail {

/// The tree of a container whose elements are all of one type.
template <class Container, class Element>
struct ElementTree {
  static constexpr bool kHasTensors = TensorTree<Element>::kHasTensors;
  template <class Visit>
  static void visit(Container& container, Visit& visit) {
    if constexpr (kHasTensors) {
      for (Element& element : container) TensorTree<Element>::visit(element, visit);
    }
  }
};

template <class Map, class Value>
struct MapTree {
  static constexpr bool kHasTensors = TensorTree<Value>::kHasTensors;
  template <class Visit>
  static void visit(Map& map, Visit& visit) {
    if constexpr (kHasTensors) {
      for (auto& item : map) TensorTree<Value>::visit(item.second, visit);
    }
  }
};

template <class Tuple, class... Members>
struct TupleTree {
  static constexpr bool kHasTensors = (TensorTree<Members>::kHasTensors || ...);
  template <class Visit>
  static void visit(Tuple& tuple, Visit& visit) {
    std::apply([&](Members&... members) { (TensorTree<Members>::visit(members, visit), ...); },
               tuple);
  }
};

}  // namespace detail

template <class T, class Allocator>
struct TensorTree<std::vector<T, Allocator>> : detail::ElementTree<std::vector<T, Allocator>, T> {};
template <class T, std::size_t N>
struct TensorTree<std::array<T, N>> : detail::ElementTree<std::array<T, N>, T> {};
template <class Key, class T, class... Rest>
struct TensorTree<std::map<Key, T, Rest...>> : detail::MapTree<std::map<Key, T, Rest...>, T> {};
/// The tree of an unordered_map, in its own order, which is fixed as long as it is not changed.
template <class Key, class T, class... Rest>
struct TensorTree<std::unordered_map<Key, T, Rest...>>
    : detail::MapTree<std::unordered_map<Key, T, Rest...>, T> {};
template <class First, class Second>
struct TensorTree<std::pair<First, Second>>
    : detail::TupleTree<std::pair<First, Second>, First, Second> {};
template <class... Members>
struct TensorTree<std::tuple<Members...>> : detail::TupleTree<std::tuple<Members...>, Members...> {
};
template <class Key, class T>
struct TensorTree<torch::OrderedDict<Key, T>> {
  static constexpr bool kHasTensors = TensorTree<T>::kHasTensors;
  template <class Visit>
  static void visit(torch::OrderedDict<Key, T>& dictionary, Visit& visit) {
    for (auto& item : dictionary) TensorTree<T>::visit(item.value(), visit);
  }
};

/// Takes the tensors out of `value`, leaving undefined ones.
template <class T>
[[nodiscard]] std::vector<torch::Tensor> take_tensors(T& value) {
  std::vector<torch::Tensor> tensors;
  auto take = [&](torch::Tensor& tensor) { tensors.push_back(std::exchange(tensor, {})); };
  TensorTree<T>::visit(value, take);
  return tensors;
}

/// Puts as many tensors back as were taken, in the same order.
template <class T>
void put_tensors(T& value, const std::vector<torch::Tensor>& tensors) {
  std::size_t next = 0;
  auto put = [&](torch::Tensor& tensor) { tensor = tensors.at(next++); };
  TensorTree<T>::visit(value, put);
}

}  // namespace strata
