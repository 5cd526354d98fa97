// SPDX-License-Identifier: Apache-2.0
// L1 and SSIM with the slope of SSIM. A block takes a tile of one channel with the pixels that its
// window sees into shared memory, goes along the rows, then down the columns. The derivatives by
// the moments pass through global memory to a second kernel that does the same with them. Sums over
// pixels: over a block in a fixed order, and over the blocks in order and in double precision.
#include "image_loss.h"

#include "../../cuda/warp.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int WIDTH = 32, HEIGHT = 16;  // of a tile
constexpr int ROWS_AT_ONCE = 2;         // of a thread: their windows share all rows but two
constexpr int THREADS = WIDTH * HEIGHT / ROWS_AT_ONCE;
constexpr int WARPS = THREADS / WARP;
constexpr int WIDE = WIDTH + 2 * SSIM_RADIUS, HIGH = HEIGHT + 2 * SSIM_RADIUS;
constexpr int WINDOW_ROWS = SSIM_WINDOW + ROWS_AT_ONCE - 1;
static_assert(WIDTH == WARP, "a warp is a row of a tile");

enum ImageMap { OF_IMAGE, OF_TARGET, OF_SQUARES, OF_PRODUCT, MOMENT_MAPS, IMAGE_MAPS = 2 };
enum SlopeMap { BY_IMAGE, BY_SQUARES, BY_PRODUCT, SLOPE_MAPS };
enum Sum { DIFFERENCE, SIMILARITY, WEIGHT, SUMS };

constexpr int PIXELS_OF_THREAD = 4;  // of the gradient
constexpr int FINISHERS = 256;       // threads that add up the blocks

dim3 tiles_of(const ImageLossParams& p) {
  return dim3(blocks_for(p.width, WIDTH), blocks_for(p.height, HEIGHT), p.channels);
}

int64_t tile_count(const ImageLossParams& p) {
  const dim3 tiles = tiles_of(p);
  return int64_t(tiles.x) * tiles.y * tiles.z;
}

int64_t plane_of(const ImageLossParams& p) {
  return int64_t(p.height) * p.width;
}

// Weight of pixel (x, y), zero outside the image.
__device__ __forceinline__ float weight_at(const ImageLossParams& p, int x, int y) {
  if (x < 0 || y < 0 || x >= p.width || y >= p.height) return 0.0f;
  return p.weight ? larger(p.weight[int64_t(y) * p.width + x], 0.0f) : 1.0f;
}

// Row k of the windows' rows as window r weighs it.
__device__ __forceinline__ constexpr float window_weight(int k, int r) {
  return k < r || k >= r + SSIM_WINDOW ? 0.0f
         : k < r + SSIM_RADIUS         ? ssim_weight(r + SSIM_RADIUS - k)
                                       : ssim_weight(k - r - SSIM_RADIUS);
}

// Sums[r][m] of map m in the window round this thread's row r, in this thread's column.
template <int MAPS>
__device__ __forceinline__ void blur_down(const float (&rows)[MAPS][HIGH][WIDTH],
                                          float (&sums)[ROWS_AT_ONCE][MAPS]) {
  const int column = lane_index(), first = warp_index() * ROWS_AT_ONCE;
#pragma unroll
  for (int r = 0; r < ROWS_AT_ONCE; ++r)
#pragma unroll
    for (int m = 0; m < MAPS; ++m) sums[r][m] = 0.0f;
#pragma unroll
  for (int k = 0; k < WINDOW_ROWS; ++k)
#pragma unroll
    for (int m = 0; m < MAPS; ++m) {
      const float value = rows[m][first + k][column];
#pragma unroll
      for (int r = 0; r < ROWS_AT_ONCE; ++r)
        if (k >= r && k < r + SSIM_WINDOW)
          sums[r][m] = fused(window_weight(k, r), value, sums[r][m]);
    }
}

// The block's sum of each of the values, in the first thread, in a fixed order.
__device__ __forceinline__ void sum_block(float (&values)[SUMS], float (&shared)[SUMS][WARPS]) {
#pragma unroll
  for (int i = 0; i < SUMS; ++i) {
    for (int step = WARP / 2; step > 0; step /= 2)
      values[i] += __shfl_xor_sync(EVERY_LANE, values[i], step);
    if (lane_index() == 0) shared[i][warp_index()] = values[i];
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
#pragma unroll
  for (int i = 0; i < SUMS; ++i) {
    values[i] = 0.0f;
    for (int w = 0; w < WARPS; ++w) values[i] += shared[i][w];
  }
}

// partial [SUMS, tiles]; derivatives [SLOPE_MAPS, C, H, W] by the blurred moments, weighted.
template <bool LEARNS>
__global__ void __launch_bounds__(THREADS)
    image_compare_kernel(ImageLossParams p, float* derivatives, float* partial, int64_t plane,
                         int64_t tiles) {
  __shared__ float images[IMAGE_MAPS][HIGH][WIDE];
  __shared__ float moments[MOMENT_MAPS][HIGH][WIDTH];
  __shared__ float shared_sums[SUMS][WARPS];
  const int left = static_cast<int>(blockIdx.x) * WIDTH,
            top = static_cast<int>(blockIdx.y) * HEIGHT;
  const int64_t channel = int64_t(blockIdx.z) * plane;
  for (int i = static_cast<int>(threadIdx.x); i < HIGH * WIDE; i += THREADS) {
    const int x = left + i % WIDE - SSIM_RADIUS, y = top + i / WIDE - SSIM_RADIUS;
    const bool inside = weight_at(p, x, y) > 0.0f;
    const int64_t at = channel + int64_t(y) * p.width + x;
    images[OF_IMAGE][i / WIDE][i % WIDE] = inside ? p.image[at] : 0.0f;
    images[OF_TARGET][i / WIDE][i % WIDE] = inside ? p.target[at] : 0.0f;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < HIGH * WIDTH; i += THREADS) {
    const int row = i / WIDTH, column = i % WIDTH;
    float sums[MOMENT_MAPS] = {};
#pragma unroll
    for (int k = 0; k < SSIM_WINDOW; ++k) {
      const float x = images[OF_IMAGE][row][column + k], t = images[OF_TARGET][row][column + k];
      const float weight = window_weight(k, 0);
      sums[OF_IMAGE] = fused(weight, x, sums[OF_IMAGE]);
      sums[OF_TARGET] = fused(weight, t, sums[OF_TARGET]);
      sums[OF_SQUARES] = fused(weight, fused(x, x, t * t), sums[OF_SQUARES]);
      sums[OF_PRODUCT] = fused(weight, x * t, sums[OF_PRODUCT]);
    }
#pragma unroll
    for (int m = 0; m < MOMENT_MAPS; ++m) moments[m][row][column] = sums[m];
  }
  __syncthreads();
  float blurred[ROWS_AT_ONCE][MOMENT_MAPS], sums[SUMS] = {};
  blur_down(moments, blurred);
#pragma unroll
  for (int r = 0; r < ROWS_AT_ONCE; ++r) {
    const int row = warp_index() * ROWS_AT_ONCE + r, x = left + lane_index(), y = top + row;
    if (x >= p.width || y >= p.height) continue;
    const float weight = weight_at(p, x, y);
    const Similarity<float> here =
        similarity(LocalMoments<float>{blurred[r][OF_IMAGE], blurred[r][OF_TARGET],
                                       blurred[r][OF_SQUARES], blurred[r][OF_PRODUCT]});
    const float *image = images[OF_IMAGE][row + SSIM_RADIUS] + SSIM_RADIUS,
                *target = images[OF_TARGET][row + SSIM_RADIUS] + SSIM_RADIUS;
    const float difference = image[lane_index()] - target[lane_index()];
    sums[DIFFERENCE] = fused(weight, magnitude(difference), sums[DIFFERENCE]);
    sums[SIMILARITY] = fused(weight, here.value, sums[SIMILARITY]);
    sums[WEIGHT] += blockIdx.z == 0 ? weight : 0.0f;
    if (!LEARNS) continue;
    float* const out = derivatives + channel + int64_t(y) * p.width + x;
    out[BY_IMAGE * p.channels * plane] = weight * here.by_image;
    out[BY_SQUARES * p.channels * plane] = weight * here.by_squares;
    out[BY_PRODUCT * p.channels * plane] = weight * here.by_product;
  }
  sum_block(sums, shared_sums);
  if (threadIdx.x > 0) return;
  const int64_t tile = (int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
#pragma unroll
  for (int i = 0; i < SUMS; ++i) partial[i * tiles + tile] = sums[i];
}

// The slope, from the derivatives of all pixels whose windows see a pixel.
__global__ void __launch_bounds__(THREADS)
    image_slope_kernel(ImageLossParams p, const float* derivatives, int64_t plane) {
  __shared__ float by[SLOPE_MAPS][HIGH][WIDE];
  __shared__ float along[SLOPE_MAPS][HIGH][WIDTH];
  const int left = static_cast<int>(blockIdx.x) * WIDTH,
            top = static_cast<int>(blockIdx.y) * HEIGHT;
  const int64_t channel = int64_t(blockIdx.z) * plane;
  for (int i = static_cast<int>(threadIdx.x); i < HIGH * WIDE; i += THREADS) {
    const int x = left + i % WIDE - SSIM_RADIUS, y = top + i / WIDE - SSIM_RADIUS;
    const bool inside = x >= 0 && y >= 0 && x < p.width && y < p.height;
    const int64_t at = channel + int64_t(y) * p.width + x;
#pragma unroll
    for (int m = 0; m < SLOPE_MAPS; ++m)
      by[m][i / WIDE][i % WIDE] = inside ? derivatives[m * p.channels * plane + at] : 0.0f;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < HIGH * WIDTH; i += THREADS) {
    const int row = i / WIDTH, column = i % WIDTH;
#pragma unroll
    for (int m = 0; m < SLOPE_MAPS; ++m) {
      float sum = 0.0f;
#pragma unroll
      for (int k = 0; k < SSIM_WINDOW; ++k)
        sum = fused(window_weight(k, 0), by[m][row][column + k], sum);
      along[m][row][column] = sum;
    }
  }
  __syncthreads();
  float blurred[ROWS_AT_ONCE][SLOPE_MAPS];
  blur_down(along, blurred);
#pragma unroll
  for (int r = 0; r < ROWS_AT_ONCE; ++r) {
    const int x = left + lane_index(), y = top + warp_index() * ROWS_AT_ONCE + r;
    if (x >= p.width || y >= p.height) continue;
    const int64_t at = channel + int64_t(y) * p.width + x;
    const float slope = image_slope(blurred[r][BY_IMAGE], blurred[r][BY_SQUARES],
                                    blurred[r][BY_PRODUCT], p.image[at], p.target[at]);
    p.slope[at] = weight_at(p, x, y) > 0.0f ? slope : 0.0f;
  }
}

__global__ void __launch_bounds__(FINISHERS)
    image_finish_kernel(const float* partial, int64_t tiles, int channels, float* losses,
                        double* total) {
  __shared__ double shared[SUMS][FINISHERS];
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < SUMS; ++i) {
    double sum = 0.0;
    for (int64_t t = thread; t < tiles; t += FINISHERS) sum += partial[i * tiles + t];
    shared[i][thread] = sum;
  }
  for (int half = FINISHERS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
#pragma unroll
    for (int i = 0; i < SUMS; ++i) shared[i][thread] += shared[i][thread + half];
  }
  if (thread > 0) return;
  const ImageSums sums = {shared[DIFFERENCE][0], shared[SIMILARITY][0], shared[WEIGHT][0]};
  image_losses(sums, channels, losses);
  *total = sums.weight;
}

// grad [C, H, W]; a block takes pixels of one channel.
__global__ void __launch_bounds__(THREADS)
    image_grad_kernel(ImageGradParams g, const double* total, const float* grad_losses,
                      int64_t plane) {
  __shared__ ImageScales shared;
  const ImageLossParams& p = g.forward;
  if (threadIdx.x == 0) shared = image_scales(*total, p.channels, grad_losses);
  __syncthreads();
  const ImageScales scales = shared;
  const int64_t channel = int64_t(blockIdx.y) * plane;
  const int64_t first = int64_t(blockIdx.x) * PIXELS_OF_THREAD * THREADS + threadIdx.x;
#pragma unroll
  for (int k = 0; k < PIXELS_OF_THREAD; ++k) {
    const int64_t pixel = first + k * THREADS;
    if (pixel >= plane) break;
    const int64_t at = channel + pixel;
    const float difference = p.image[at] - p.target[at];
    const float weight = p.weight ? larger(p.weight[pixel], 0.0f) : 1.0f;
    // Zero times an infinite number outside the image must stay zero: select, do not multiply.
    const float sign = weight > 0.0f ? (difference > 0.0f) - (difference < 0.0f) : 0.0f;
    g.grad[at] = fused(scales.slope, p.slope[at], scales.l1 * weight * sign);
  }
}

}  // namespace

size_t image_loss_bytes(const ImageLossParams& p) {
  const int64_t maps = p.slope ? SLOPE_MAPS * p.channels * plane_of(p) : 0;
  return sizeof(float) * (SUMS * tile_count(p) + maps);
}

void compare_images(const ImageLossParams& p, float* losses, double* total, void* memory,
                    void* stream) {
  const dim3 tiles = tiles_of(p);
  const int64_t plane = plane_of(p), count = tile_count(p);
  float* const partial = static_cast<float*>(memory);
  float* const derivatives = partial + SUMS * count;
  launch("image_compare", stream, tiles, THREADS, 0,
         p.slope ? &image_compare_kernel<true> : &image_compare_kernel<false>, p, derivatives,
         partial, plane, count);
  launch("image_finish", stream, 1, FINISHERS, 0, &image_finish_kernel, partial, count, p.channels,
         losses, total);
  if (p.slope)
    launch("image_slope", stream, tiles, THREADS, 0, &image_slope_kernel, p, derivatives, plane);
}

void image_grads(const ImageGradParams& p, const double* total, const float* grad_losses,
                 void* stream) {
  const int64_t plane = plane_of(p.forward);
  const dim3 blocks(blocks_for(plane, THREADS * PIXELS_OF_THREAD), p.forward.channels);
  launch("image_grad", stream, blocks, THREADS, 0, &image_grad_kernel, p, total, grad_losses,
         plane);
}

}  // namespace cuda
}  // namespace iqgs
