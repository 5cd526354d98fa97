// SPDX-License-Identifier: Apache-2.0
// Normal consistency with its slopes, in one kernel. A block takes a tile of pixels: the surface's
// depth with a margin of two pixels, then the normals' derivatives with a margin of one, both into
// shared memory, then the derivatives by the depth. The sum over pixels: over a block in a fixed
// order, and over the blocks in order and in double precision.
#include "normal_loss.h"

#include "../../cuda/warp.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int WIDTH = 32, HEIGHT = 8;  // of a tile: a thread a pixel
constexpr int THREADS = WIDTH * HEIGHT;
constexpr int WARPS = THREADS / WARP;
constexpr int WIDE = WIDTH + 2, HIGH = HEIGHT + 2;      // with a margin of one
constexpr int WIDEST = WIDTH + 4, HIGHEST = HEIGHT + 4;  // and of two
constexpr int FINISHERS = 256;

enum DifferenceMap { BY_DOWN, BY_RIGHT = 3, DIFFERENCE_MAPS = 6 };

dim3 tiles_of(const NormalLossParams& p) {
  return dim3(blocks_for(p.width, WIDTH), blocks_for(p.height, HEIGHT), 1);
}

struct NormalTile {
  float depth[HIGHEST][WIDEST];
  float differences[DIFFERENCE_MAPS][HIGH][WIDE];
  float sums[WARPS];
};

__device__ __forceinline__ float depth_at(const NormalLossParams& p, int x, int y) {
  if (x < 0 || y < 0 || x >= p.width || y >= p.height) return 0.0f;
  const int64_t at = int64_t(y) * p.width + x;
  const float depth = surface_depth(p.depth[at], p.alpha[at]);
  return p.median ? fused(1.0f - p.median_share, depth, p.median_share * p.median[at]) : depth;
}

__device__ __forceinline__ float ray_x(const NormalLossParams& p, int x) {
  return p.rays.x + p.rays.inverse_fx * static_cast<float>(x);
}

__device__ __forceinline__ float ray_y(const NormalLossParams& p, int y) {
  return p.rays.y + p.rays.inverse_fy * static_cast<float>(y);
}

// The agreement of pixel (x, y), at (column, row) of the tile's depths; zero on the border.
__device__ __forceinline__ NormalAgreement<float> agreement_at(const NormalLossParams& p,
                                                               const NormalTile& t, int x, int y,
                                                               int column, int row) {
  const Vec3<float> nothing = {0.0f, 0.0f, 0.0f};
  if (x < 1 || y < 1 || x >= p.width - 1 || y >= p.height - 1)
    return {0.0f, nothing, nothing, nothing};
  const Vec3<float> right = along_row(t.depth[row][column - 1], t.depth[row][column + 1],
                                      ray_x(p, x - 1), ray_x(p, x + 1), ray_y(p, y));
  const Vec3<float> down = along_column(t.depth[row - 1][column], t.depth[row + 1][column],
                                        ray_x(p, x), ray_y(p, y - 1), ray_y(p, y + 1));
  const int64_t plane = int64_t(p.height) * p.width, at = int64_t(y) * p.width + x;
  const Vec3<float> normal = {p.normal[at], p.normal[plane + at], p.normal[2 * plane + at]};
  return normal_agreement(down, right, normal, p.alpha[at]);
}

// Derivatives of pixel (x, y), at (column, row) of the tile's differences.
__device__ __forceinline__ void write_depth_slopes(const NormalLossParams& p, const NormalTile& t,
                                                   int x, int y, int column, int row) {
  float by[3];
#pragma unroll
  for (int k = 0; k < 3; ++k)
    by[k] = (t.differences[BY_DOWN + k][row - 1][column] -
             t.differences[BY_DOWN + k][row + 1][column]) +
            (t.differences[BY_RIGHT + k][row][column - 1] -
             t.differences[BY_RIGHT + k][row][column + 1]);
  const float by_depth = fused(by[0], ray_x(p, x), fused(by[1], ray_y(p, y), by[2]));
  const int64_t plane = int64_t(p.height) * p.width, at = int64_t(y) * p.width + x;
  const float alpha = p.alpha[at], inverse = reciprocal(larger(alpha, LEAST_ALPHA));
  const float by_sum = (1.0f - p.median_share) * by_depth * inverse;
  p.slopes[3 * plane + at] = by_sum;
  p.slopes[4 * plane + at] = alpha >= LEAST_ALPHA ? -(by_sum * p.depth[at] * inverse) : 0.0f;
  if (p.median) p.slopes[5 * plane + at] = p.median_share * by_depth;
}

// The block's sum in the first thread, in a fixed order.
__device__ __forceinline__ float sum_block(float value, float (&shared)[WARPS]) {
  for (int step = WARP / 2; step > 0; step /= 2)
    value += __shfl_xor_sync(EVERY_LANE, value, step);
  if (lane_index() == 0) shared[warp_index()] = value;
  __syncthreads();
  float sum = 0.0f;
  for (int w = 0; w < WARPS; ++w) sum += shared[w];
  return sum;
}

template <bool LEARNS>
__global__ void __launch_bounds__(THREADS)
    normal_compare_kernel(NormalLossParams p, float* partial) {
  __shared__ NormalTile t;
  const int left = static_cast<int>(blockIdx.x) * WIDTH,
            top = static_cast<int>(blockIdx.y) * HEIGHT;
  for (int i = static_cast<int>(threadIdx.x); i < HIGHEST * WIDEST; i += THREADS) {
    const int column = i % WIDEST, row = i / WIDEST;
    t.depth[row][column] = depth_at(p, left + column - 2, top + row - 2);
  }
  __syncthreads();
  const int64_t plane = int64_t(p.height) * p.width;
  float sum = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < HIGH * WIDE; i += THREADS) {
    const int column = i % WIDE, row = i / WIDE;
    const int x = left + column - 1, y = top + row - 1;
    const NormalAgreement<float> a = agreement_at(p, t, x, y, column + 1, row + 1);
    const bool own = column > 0 && row > 0 && column <= WIDTH && row <= HEIGHT && x < p.width &&
                     y < p.height;
    if (own) sum += a.value;
    if (!LEARNS) continue;
    t.differences[BY_DOWN][row][column] = a.by_down.x;
    t.differences[BY_DOWN + 1][row][column] = a.by_down.y;
    t.differences[BY_DOWN + 2][row][column] = a.by_down.z;
    t.differences[BY_RIGHT][row][column] = a.by_right.x;
    t.differences[BY_RIGHT + 1][row][column] = a.by_right.y;
    t.differences[BY_RIGHT + 2][row][column] = a.by_right.z;
    if (!own) continue;
    float* const slopes = p.slopes + int64_t(y) * p.width + x;
    slopes[0] = a.by_normal.x;
    slopes[plane] = a.by_normal.y;
    slopes[2 * plane] = a.by_normal.z;
  }
  sum = sum_block(sum, t.sums);  // waits for the derivatives as well
  if (threadIdx.x == 0) partial[int64_t(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
  if (!LEARNS) return;
  const int column = lane_index(), row = warp_index();
  const int x = left + column, y = top + row;
  if (x < p.width && y < p.height) write_depth_slopes(p, t, x, y, column + 1, row + 1);
}

__global__ void __launch_bounds__(FINISHERS)
    normal_finish_kernel(const float* partial, int64_t tiles, int64_t pixels, float* loss) {
  __shared__ double shared[FINISHERS];
  const int thread = static_cast<int>(threadIdx.x);
  double sum = 0.0;
  for (int64_t t = thread; t < tiles; t += FINISHERS) sum += partial[t];
  shared[thread] = sum;
  for (int half = FINISHERS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) shared[thread] += shared[thread + half];
  }
  if (thread == 0) *loss = normal_disagreement(shared[0], pixels);
}

}  // namespace

size_t normal_loss_bytes(const NormalLossParams& p) {
  const dim3 tiles = tiles_of(p);
  return sizeof(float) * tiles.x * tiles.y;
}

void compare_normals(const NormalLossParams& p, float* loss, float* memory, void* stream) {
  const dim3 tiles = tiles_of(p);
  launch("normal_compare", stream, tiles, THREADS, 0,
         p.slopes ? &normal_compare_kernel<true> : &normal_compare_kernel<false>, p, memory);
  launch("normal_finish", stream, 1, FINISHERS, 0, &normal_finish_kernel, memory,
         int64_t(tiles.x) * tiles.y, int64_t(p.height) * p.width, loss);
}

}  // namespace cuda
}  // namespace iqgs
