// SPDX-License-Identifier: Apache-2.0
// The three small matrix products of a 4x4 block: weights times channels (forward), channels times
// image gradients, and weights times image gradients (backward). Splats are the long side.
#pragma once

#include "weigh_block.h"

namespace iqgs {
namespace IQGS_ISA {

// Channel accumulators that fit in registers beside the weights.
#if defined(__AVX512F__)
constexpr int CHANNELS_AT_ONCE = 24;
#elif defined(__AVX2__)
constexpr int CHANNELS_AT_ONCE = 6;
#else
constexpr int CHANNELS_AT_ONCE = 2;
#endif

// sums[c] += sum over splats of weight * row[c], for N channels.
template <int N>
void accumulate(float* sums, const float* rows, int stride, const BlockWeights& w) {
  F16 s[N];
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) s[c] = F16::load(sums + LANES * c);
  for (int i = 0; i < w.count; ++i) {
    const float* row = rows + static_cast<int64_t>(w.id[i]) * stride;
    F16 weight = F16::load(w.weight + LANES * i);
#pragma GCC unroll 24
    for (int c = 0; c < N; ++c) s[c] = fused(weight, F16(row[c]), s[c]);
  }
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) s[c].store(sums + LANES * c);
}

// Calls the instance of `accumulate` for a run-time channel count up to CHANNELS_AT_ONCE.
template <int N>
IQGS_INLINE void accumulate_some(int channels, float* sums, const float* rows, int stride,
                                 const BlockWeights& w) {
  if constexpr (N > 0) {
    if (channels == N) return accumulate<N>(sums, rows, stride, w);
    accumulate_some<N - 1>(channels, sums, rows, stride, w);
  }
}

IQGS_PHASE void accumulate_channels(int channels, float* sums, const float* rows, int stride,
                                    const BlockWeights& w) {
  for (int c = 0; c < channels; c += CHANNELS_AT_ONCE) {
    int n = channels - c < CHANNELS_AT_ONCE ? channels - c : CHANNELS_AT_ONCE;
    accumulate_some<CHANNELS_AT_ONCE>(n, sums + LANES * c, rows + c, stride, w);
  }
}

// linear[i] += sum over N channels of row[c] * grad[c].
template <int N>
void contract(float* linear, const float* grads, const float* rows, int stride,
              const BlockWeights& w, bool first) {
  F16 g[N];
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) g[c] = F16::load(grads + LANES * c);
  for (int i = 0; i < w.count; ++i) {
    const float* row = rows + static_cast<int64_t>(w.id[i]) * stride;
    F16 even = first ? F16(0.0f) : F16::load(linear + LANES * i), odd(0.0f);
#pragma GCC unroll 24
    for (int c = 0; c + 1 < N; c += 2) {
      even = fused(F16(row[c]), g[c], even);
      odd = fused(F16(row[c + 1]), g[c + 1], odd);
    }
    if (N % 2) even = fused(F16(row[N - 1]), g[N - 1], even);
    (even + odd).store(linear + LANES * i);
  }
}

template <int N>
IQGS_INLINE void contract_some(int channels, float* linear, const float* grads, const float* rows,
                               int stride, const BlockWeights& w, bool first) {
  if constexpr (N > 0) {
    if (channels == N) return contract<N>(linear, grads, rows, stride, w, first);
    contract_some<N - 1>(channels, linear, grads, rows, stride, w, first);
  }
}

// linear[i] = <row of splat i, grads>, per pixel.
IQGS_PHASE void contract_channels(int channels, float* linear, const float* grads,
                                  const float* rows, int stride, const BlockWeights& w) {
  if (channels == 0) __builtin_memset(linear, 0, sizeof(float) * LANES * w.count);
  for (int c = 0; c < channels; c += CHANNELS_AT_ONCE) {
    int left = channels - c, n = left < CHANNELS_AT_ONCE ? left : CHANNELS_AT_ONCE;
    contract_some<CHANNELS_AT_ONCE>(n, linear, grads + LANES * c, rows + c, stride, w, c == 0);
  }
}

// out[id][c] += sum over pixels of weight * pixels[.][c]: channels in lanes, no sums over lanes.
// Sixteen channels, `wide` floats from pixel to pixel.
IQGS_INLINE void spread_sixteen(const float* pixels, int wide, float* rows, int stride,
                                const BlockWeights& w) {
  F16 g[LANES];
#pragma GCC unroll 16
  for (int j = 0; j < LANES; ++j) g[j] = F16::load(pixels + j * wide);
  for (int i = 0; i < w.count; ++i) {
    const float* weight = w.weight + LANES * i;
    float* out = rows + static_cast<int64_t>(w.id[i]) * stride;
    F16 even = F16::load(out), odd = F16(weight[1]) * g[1];
    even = fused(F16(weight[0]), g[0], even);
#pragma GCC unroll 16
    for (int j = 2; j < LANES; j += 2) {
      even = fused(F16(weight[j]), g[j], even);
      odd = fused(F16(weight[j + 1]), g[j + 1], odd);
    }
    (even + odd).store(out);
  }
}

// The same for four channels.
IQGS_INLINE void spread_four(const float* pixels, int wide, float* rows, int stride,
                             const BlockWeights& w) {
  Quad g[LANES];
#pragma GCC unroll 16
  for (int j = 0; j < LANES; ++j) g[j] = load_quad(pixels + j * wide);
  for (int i = 0; i < w.count; ++i) {
    const float* weight = w.weight + LANES * i;
    float* out = rows + static_cast<int64_t>(w.id[i]) * stride;
    Quad even = load_quad(out), odd = {};
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j += 2) {
      even = fused_quad(weight[j] - Quad{}, g[j], even);
      odd = fused_quad(weight[j + 1] - Quad{}, g[j + 1], odd);
    }
    store_quad(out, even + odd);
  }
}

IQGS_PHASE void spread_channels(int channels, const float* pixels, int wide, float* rows,
                                int stride, const BlockWeights& w) {
  for (int c = 0; c < channels; c += LANES) {
    if (channels - c > 4)
      spread_sixteen(pixels + c, wide, rows + c, stride, w);
    else
      spread_four(pixels + c, wide, rows + c, stride, w);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
