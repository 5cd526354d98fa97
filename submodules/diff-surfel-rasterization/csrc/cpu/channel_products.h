// SPDX-License-Identifier: Apache-2.0
// The three small matrix products of a patch: weights times channels (forward), channels times
// image gradients, and weights times image gradients (backward). Splats are the long side.
#pragma once

#include "weigh_patch.h"

namespace iqgs {
namespace IQGS_ISA {

// Channel accumulators that fit in registers beside the weights.
#if defined(__AVX512F__)
constexpr int CHANNELS_AT_ONCE = 54;
constexpr int CONTRACTED_AT_ONCE = 54;
#elif defined(__AVX2__)
constexpr int CHANNELS_AT_ONCE = 12;
constexpr int CONTRACTED_AT_ONCE = 11;
#else
constexpr int CHANNELS_AT_ONCE = 5;
constexpr int CONTRACTED_AT_ONCE = 5;
#endif

// sums[c] += sum over splats of weight * row[c], for N channels.
template <int N>
void accumulate(float* sums, const float* rows, int stride, const PatchWeights& w) {
  FP s[N];
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) s[c] = FP::load(sums + PATCH * c);
  for (int i = 0; i < w.count; ++i) {
    const float* row = rows + static_cast<int64_t>(w.id[i]) * stride;
    FP weight = FP::load(w.weight + PATCH * i);
#pragma GCC unroll 24
    for (int c = 0; c < N; ++c) s[c] = fused(weight, FP(row[c]), s[c]);
  }
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) s[c].store(sums + PATCH * c);
}

// Calls the instance of `accumulate` for a run-time channel count up to CHANNELS_AT_ONCE.
template <int N>
IQGS_INLINE void accumulate_some(int channels, float* sums, const float* rows, int stride,
                                 const PatchWeights& w) {
  if constexpr (N > 0) {
    if (channels == N) return accumulate<N>(sums, rows, stride, w);
    accumulate_some<N - 1>(channels, sums, rows, stride, w);
  }
}

IQGS_PHASE void accumulate_channels(int channels, float* sums, const float* rows, int stride,
                                    const PatchWeights& w) {
  for (int c = 0; c < channels; c += CHANNELS_AT_ONCE) {
    int n = channels - c < CHANNELS_AT_ONCE ? channels - c : CHANNELS_AT_ONCE;
    accumulate_some<CHANNELS_AT_ONCE>(n, sums + PATCH * c, rows + c, stride, w);
  }
}

// linear[i] += sum over N channels of row[c] * grad[c], for S splats: chains of dependent sums that
// the processor can work on at the same time.
template <int N, int S>
IQGS_INLINE void contract_splats(float* linear, const FP (&g)[N], const float* rows, int stride,
                                 const int32_t* id, bool first) {
  const float* row[S];
  FP even[S], odd[S];
#pragma GCC unroll 2
  for (int s = 0; s < S; ++s) {
    row[s] = rows + static_cast<int64_t>(id[s]) * stride;
    even[s] = first ? FP(0.0f) : FP::load(linear + s * PATCH);
    odd[s] = FP(0.0f);
  }
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) {
#pragma GCC unroll 2
    for (int s = 0; s < S; ++s) {
      FP& sum = c % 2 ? odd[s] : even[s];
      sum = fused(FP(row[s][c]), g[c], sum);
    }
  }
#pragma GCC unroll 2
  for (int s = 0; s < S; ++s) (even[s] + odd[s]).store(linear + s * PATCH);
}

template <int N>
void contract(float* linear, const float* grads, const float* rows, int stride,
              const PatchWeights& w, bool first) {
  FP g[N];
#pragma GCC unroll 24
  for (int c = 0; c < N; ++c) g[c] = FP::load(grads + PATCH * c);
  const int32_t* ids = w.id;  // copies: what is stored could lie over `w`
  const int count = w.count;
  int i = 0;
  for (; i + 2 <= count; i += 2)
    contract_splats<N, 2>(linear + PATCH * i, g, rows, stride, ids + i, first);
  if (i < count) contract_splats<N, 1>(linear + PATCH * i, g, rows, stride, ids + i, first);
}

template <int N>
IQGS_INLINE void contract_some(int channels, float* linear, const float* grads, const float* rows,
                               int stride, const PatchWeights& w, bool first) {
  if constexpr (N > 0) {
    if (channels == N) return contract<N>(linear, grads, rows, stride, w, first);
    contract_some<N - 1>(channels, linear, grads, rows, stride, w, first);
  }
}

// linear[i] = <row of splat i, grads>, per pixel.
IQGS_PHASE void contract_channels(int channels, float* linear, const float* grads,
                                  const float* rows, int stride, const PatchWeights& w) {
  if (channels == 0) __builtin_memset(linear, 0, sizeof(float) * PATCH * w.count);
  for (int c = 0; c < channels; c += CONTRACTED_AT_ONCE) {
    int left = channels - c, n = left < CONTRACTED_AT_ONCE ? left : CONTRACTED_AT_ONCE;
    contract_some<CONTRACTED_AT_ONCE>(n, linear, grads + PATCH * c, rows + c, stride, w, c == 0);
  }
}

// Channels that `spread_channels` takes at a time: its image gradients come in panels of [PATCH, so
// many], the last one filled up.
#if defined(__AVX512F__)
constexpr int PANEL = LANES;
#else
constexpr int PANEL = 3 * NATIVE;
#endif

IQGS_INLINE int panelled(int channels) {
  return (channels + PANEL - 1) / PANEL * PANEL;
}

// Where channel c of pixel j lies.
IQGS_INLINE float* panel_entry(float* panels, int c, int j) {
  return panels + c / PANEL * PANEL * PATCH + j * PANEL + c % PANEL;
}

#if defined(__AVX512F__)
// Sixteen or eight channels.
template <class Row>
IQGS_INLINE void spread_panel(const float* panel, float* rows, int stride, const PatchWeights& w) {
  Row g[PATCH];
#pragma GCC unroll 16
  for (int j = 0; j < PATCH; ++j) g[j] = Row::load(panel + j * PANEL);
  for (int i = 0; i < w.count; ++i) {
    const float* weight = w.weight + PATCH * i;
    float* out = rows + static_cast<int64_t>(w.id[i]) * stride;
    Row even = Row::load(out), odd = Row(weight[1]) * g[1];
    even = fused(Row(weight[0]), g[0], even);
#pragma GCC unroll 16
    for (int j = 2; j < PATCH; j += 2) {
      even = fused(Row(weight[j]), g[j], even);
      odd = fused(Row(weight[j + 1]), g[j + 1], odd);
    }
    (even + odd).store(out);
  }
}
#else
constexpr int SPLATS_AT_ONCE = 4;

// S splats and G vectors of channels, the sums in registers.
template <int S, int G>
IQGS_INLINE void spread_some(const float* panel, float* rows, int stride, const float* weight,
                             const int32_t* id) {
  using Row = Floats<1>;
  float* out[S];
  Row sum[S][G];
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s) {
    out[s] = rows + static_cast<int64_t>(id[s]) * stride;
#pragma GCC unroll 3
    for (int c = 0; c < G; ++c) sum[s][c] = Row::load(out[s] + c * NATIVE);
  }
#pragma GCC unroll 8
  for (int j = 0; j < PATCH; ++j) {
    Row g[G];
#pragma GCC unroll 3
    for (int c = 0; c < G; ++c) g[c] = Row::load(panel + j * PANEL + c * NATIVE);
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      const Row w(weight[s * PATCH + j]);
#pragma GCC unroll 3
      for (int c = 0; c < G; ++c) sum[s][c] = fused(w, g[c], sum[s][c]);
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < S; ++s)
#pragma GCC unroll 3
    for (int c = 0; c < G; ++c) sum[s][c].store(out[s] + c * NATIVE);
}

template <int G>
void spread_panel(const float* panel, float* rows, int stride, const PatchWeights& w) {
  const float* weight = w.weight;
  const int32_t* id = w.id;
  const int count = w.count;
  int i = 0;
  for (; i + SPLATS_AT_ONCE <= count; i += SPLATS_AT_ONCE)
    spread_some<SPLATS_AT_ONCE, G>(panel, rows, stride, weight + PATCH * i, id + i);
  for (; i < count; ++i) spread_some<1, G>(panel, rows, stride, weight + PATCH * i, id + i);
}
#endif

// rows[id][c] += sum over pixels of weight * dL/dchannel c: channels in lanes, no sums over lanes.
IQGS_PHASE void spread_channels(int channels, const float* panels, float* rows, int stride,
                                const PatchWeights& w) {
  for (int c = 0; c < channels; c += PANEL, panels += PANEL * PATCH, rows += PANEL) {
    const int left = channels - c;
#if defined(__AVX512F__)
    if (left > 8)
      spread_panel<F16>(panels, rows, stride, w);
    else
      spread_panel<F8>(panels, rows, stride, w);
#else
    if (left > 2 * NATIVE)
      spread_panel<3>(panels, rows, stride, w);
    else if (left > NATIVE)
      spread_panel<2>(panels, rows, stride, w);
    else
      spread_panel<1>(panels, rows, stride, w);
#endif
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
