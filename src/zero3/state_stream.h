#pragma once

#include <cstdint>
#include <span>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/home_transfer.h"

namespace strata::zero3 {

/// Buffers through which the masters of one flat vector pass when they rest elsewhere. They serve
/// one vector at a time: two vectors that are read or written in turn need two of these.
struct StagingBuffers {
  std::span<std::byte> weight;  ///< MasterStream::weight_staging_bytes
  std::span<std::byte> master;  ///< MasterStream::master_staging_bytes; empty for a frozen vector
};

/// The way in which states that rest elsewhere are moved.
struct StatePassage {
  tiering::HomePlaces places;
  std::uint64_t chunk_bytes;  ///< bytes moved at a time; the shard store's
};

/// The fp32 masters of one flat vector at rest: read and written range by range, in any order, best
/// from the start to the end. One piece of the vector is in the buffers at a time; a written piece
/// goes home when another one is wanted, or with `flush`. First values have their own way there
/// (MasterWriter). Thread: the engine's.
class MasterStream {
 public:
  /// Bytes that the buffers need for homes that are elsewhere, moved in chunks of `chunk_bytes`:
  /// one or two chunks.
  [[nodiscard]] static std::uint64_t weight_staging_bytes(const StateFormat& format,
                                                          std::uint64_t chunk_bytes, bool frozen);
  [[nodiscard]] static std::uint64_t master_staging_bytes(const StateFormat& format,
                                                          std::uint64_t chunk_bytes);

  /// A stream of `count` elements. `master` is empty if there is only the weight: for frozen
  /// parameters and in fp32. The homes must outlive the stream.
  MasterStream(const StateFormat& format, std::uint64_t count, const tiering::StateHome& weight,
               const tiering::StateHome& master, const StatePassage& passage,
               const StagingBuffers& staging);

  /// Reads masters of elements [begin, begin + masters.size()). Throws IoError, DeadlineExceeded,
  /// CorruptData.
  void read(std::uint64_t begin, std::span<float> masters);
  /// Reads the compute weight at rest, without the rest of the master.
  void read_weights(std::uint64_t begin, std::span<float> weights);
  void write(std::uint64_t begin, std::span<const float> masters);
  /// Sends written pieces home.
  void flush();

 private:
  struct Home {
    const tiering::StateHome* home;
    std::uint64_t element_bytes;
    std::span<std::byte> staging;
    [[nodiscard]] bool exists() const { return home->exists(); }
  };

  /// Calls visit(first element, count, weight bytes, master bytes or null) per piece of a range.
  template <class Visit>
  void for_each_piece(std::uint64_t begin, std::uint64_t count, const Visit& visit);
  void turn_to(std::uint64_t piece);
  void fetch(const Home& home) const;
  void flush(const Home& home) const;
  [[nodiscard]] std::byte* data(const Home& home, std::uint64_t element) const;
  [[nodiscard]] std::uint64_t piece_end() const;
  [[nodiscard]] tiering::ByteRange range_of(const Home& home) const;

  StateFormat format_;
  std::uint64_t count_;
  Home weight_, master_;
  tiering::HomePlaces places_;
  std::uint64_t piece_elements_;
  std::uint64_t piece_begin_;  // start of the piece in the buffers; count_: none
  bool changed_ = false;
};

}  // namespace strata::zero3
