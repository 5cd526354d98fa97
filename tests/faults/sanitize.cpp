// SPDX-License-Identifier: Apache-2.0
// Random and extreme inputs through everything that the CPU backend does, to be run under the
// sanitizers (scripts/sanitize.sh). Every buffer has exactly the size that the headers promise.
//
// sanitize [CASES] [SEED]: prints how many cases ran; the sanitizers end it at a finding. Sane cases
// must also give finite numbers everywhere.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <vector>

#include "cpu/quad_weights.h"
#include "cpu/rasterizer.h"
#include "cpu/splat_weights.h"
#include "losses/cpu/image_loss.h"
#include "losses/cpu/mask_loss.h"

using namespace iqgs;

namespace {

// On a cache line, with nothing readable behind the last element.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : count_(count) {
    const size_t bytes = sizeof(T) * static_cast<size_t>(count);
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes ? bytes : 1)) throw std::bad_alloc();
    memory_.reset(static_cast<T*>(memory));
    std::memset(memory, 0xff, bytes);  // no number, where somebody reads what nobody wrote
  }
  T* get() const { return memory_.get(); }
  T& operator[](int64_t i) const { return memory_.get()[i]; }
  int64_t count() const { return count_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> memory_;
  int64_t count_;
};
using Floats = Buffer<float>;

constexpr float NONE = std::numeric_limits<float>::quiet_NaN();
constexpr float INF = std::numeric_limits<float>::infinity();
const float EXTREMES[] = {0.0f, -0.0f, 1e-45f, 1e-38f, 1e-20f, -1e-7f, 1.0f,  -1.0f,
                          1e7f, -1e7f, 1e20f,  3e38f,  -3e38f, INF,    -INF, NONE};

struct Dice {
  std::mt19937_64 engine;
  int below(int n) { return static_cast<int>(engine() % static_cast<uint64_t>(n)); }
  float uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine);
  }
  float normal() { return std::normal_distribution<float>()(engine); }
  bool chance(int one_in) { return below(one_in) == 0; }
  float extreme() { return EXTREMES[below(sizeof(EXTREMES) / sizeof(float))]; }
};

// Which numbers of a case may be wild.
enum Kind { SANE, LARGE, WILD, KINDS };

struct Case {
  Dice& dice;
  Kind kind;
  int64_t n;
  int channels, sh_stride, width, height, threads;
  Primitive primitive;
  Camera camera;

  int scales() const { return primitive == Primitive::SURFEL ? 2 : 3; }
  int64_t pixels() const { return int64_t(width) * height; }
  float wild(float plain) { return kind == WILD && dice.chance(12) ? dice.extreme() : plain; }
};

Case draw(Dice& dice) {
  Case c = {dice, static_cast<Kind>(dice.below(KINDS)), 0, 0, 0, 0, 0, 0, Primitive::SURFEL, {}};
  c.n = dice.chance(10) ? 0 : dice.below(201);
  const int widths[] = {0, 1, 4, 5, 16, 21, 61};
  c.channels = widths[dice.below(7)];
  c.sh_stride = dice.chance(2) ? 0 : (1 + dice.below(4)) * (1 + dice.below(4));
  if (c.sh_stride) c.sh_stride = dice.chance(3) ? 1 : dice.chance(2) ? 4 : 16;
  c.width = 1 + dice.below(70), c.height = 1 + dice.below(70);
  c.threads = 1 + dice.below(3);
  c.primitive = dice.chance(2) ? Primitive::SURFEL : Primitive::ELLIPSOID;
  Camera& k = c.camera;
  const double angle = dice.uniform(-0.5f, 0.5f), s = std::sin(angle), q = std::cos(angle);
  const double turn[9] = {q, 0, s, 0, 1, 0, -s, 0, q};
  std::memcpy(k.rotation, turn, sizeof(turn));
  k.translation[2] = 4.0;
  for (int i = 0; i < 3; ++i) k.center[i] = -4.0 * turn[6 + i];
  k.fx = dice.uniform(5, 200), k.fy = dice.uniform(5, 200);
  k.cx = c.width * dice.uniform(-0.2f, 1.2f), k.cy = c.height * dice.uniform(-0.2f, 1.2f);
  k.scale_modifier = dice.chance(5) ? dice.uniform(0, 3) : 1.0;
  k.near = 0.2f, k.far = 100.0f, k.width = c.width, k.height = c.height;
  k.center_depth = dice.chance(3), k.aabb_anchor = dice.chance(3);
  return c;
}

struct Splats {
  Floats means, scales, rotations, opacities, colors, sh, features;

  explicit Splats(Case& c)
      : means(3 * c.n), scales(c.scales() * c.n), rotations(4 * c.n), opacities(c.n),
        colors(c.sh_stride ? 0 : 3 * c.n), sh(c.sh_stride * 3 * c.n), features(c.channels * c.n) {
    Dice& d = c.dice;
    const float reach = c.kind == SANE ? 1.5f : 6.0f;  // large ones stand behind the camera too
    for (int64_t i = 0; i < means.count(); ++i) means[i] = c.wild(reach * d.normal());
    const float spread = c.kind == SANE ? 0.7f : 4.0f;
    for (int64_t i = 0; i < scales.count(); ++i)
      scales[i] = c.wild(std::exp(spread * d.normal() - 2.0f));
    for (int64_t i = 0; i < rotations.count(); ++i) rotations[i] = c.wild(d.normal());
    for (int64_t i = 0; i < c.n; ++i) opacities[i] = c.wild(d.chance(5) ? 1.0f : d.uniform(0, 1));
    for (const Floats* f : {&colors, &sh, &features})
      for (int64_t i = 0; i < f->count(); ++i) (*f)[i] = c.wild(d.normal());
  }
};

void must_be_finite(const Case& c, const Floats& values, const char* name) {
  for (int64_t i = 0; c.kind == SANE && i < values.count(); ++i)
    if (!std::isfinite(values[i])) {
      std::fprintf(stderr, "%s: entry %lld of a sane case is %g\n", name, (long long)i, values[i]);
      std::abort();
    }
}

// Projection and lists; then everything that starts from them.
class View {
 public:
  explicit View(Case& c)
      : c_(c), s_(c), records_(c.n), footprints_(c.n), shades_(c.n), boxes_(c.n), radii_(c.n),
        offset_(c.n + 1) {
    p_ = {c.primitive, c.camera, c.n, s_.means.get(), s_.scales.get(), s_.rotations.get(),
          s_.opacities.get(), c.sh_stride ? nullptr : s_.colors.get(),
          c.sh_stride ? s_.sh.get() : nullptr, c.sh_stride, degree(), records_.get(),
          footprints_.get(), boxes_.get(), radii_.get(), shades_.get()};
    project_splats(p_, c.threads);
    pairs_ = count_pairs(boxes_.get(), c.n, offset_.get(), c.threads);
    grid_ = tile_grid(c.camera);
    const int64_t tiles = int64_t(grid_.x) * grid_.y;
    start_.reset(new Buffer<int32_t>(tiles + 1));
    splat_.reset(new Buffer<int32_t>(pairs_));
    row_.reset(new Buffer<int32_t>(pairs_));
    mask_.reset(new Buffer<uint32_t>(pairs_));
    used_.reset(new Buffer<int32_t>(tiles));
    bin_splats({grid_, c.n, records_.get(), boxes_.get(), offset_.get(), start_->get(),
                splat_->get(), row_->get()}, c.threads);
    blend_ = {};
    blend_.primitive = c.primitive, blend_.camera = c.camera;
    blend_.lists = {grid_.x, grid_.y, start_->get(), splat_->get(), row_->get(), mask_->get(),
                    used_->get()};
    blend_.records = records_.get(), blend_.footprints = footprints_.get();
    blend_.shades = shades_.get(), blend_.features = s_.features.get();
    blend_.feature_count = c.channels;
    for (float& b : blend_.background) b = c.dice.uniform(0, 1);
  }

  void images() {
    const int64_t n = c_.pixels();
    const Floats color(3 * n), feature(c_.channels * n), alpha(n), depth(n), median(n),
        normal(3 * n), distortion(n);
    BlendParams p = blend_;
    p.color = color.get(), p.feature = feature.get(), p.alpha = alpha.get();
    p.depth = depth.get(), p.median_depth = median.get();
    p.normal = normal.get(), p.distortion = distortion.get();
    blend_tiles(p, c_.threads);
    const Floats* const all[] = {&color, &feature, &alpha, &depth, &median, &normal, &distortion};
    for (const Floats* f : all) must_be_finite(c_, *f, "an image");
    backward(p);
  }

  void weights() {
    const int64_t n = c_.pixels();
    const Buffer<int32_t> count(n);
    const Buffer<int64_t> start(n + 1);
    WeightParams p = {blend_, c_.dice.chance(2) ? 0.0f : 0.01f, nullptr, count.get(), nullptr,
                      nullptr};
    weigh_tiles(p, c_.threads);
    start[0] = 0;
    for (int64_t i = 0; i < n; ++i) start[i + 1] = start[i] + count[i];
    const Buffer<int32_t> splat(start[n]);
    const Floats weight(start[n]);
    p.row_start = start.get(), p.splat = splat.get(), p.weight = weight.get();
    weigh_tiles(p, c_.threads);
    const int channels = 1 + c_.dice.below(20);
    const Buffer<int64_t> rows(c_.dice.below(30));
    for (int64_t i = 0; i < rows.count(); ++i) rows[i] = c_.dice.below(static_cast<int>(n));
    const bool all = c_.dice.chance(2);
    const int64_t used = all ? n : rows.count();
    const SparseParams m = {start.get(), splat.get(), weight.get(), all ? nullptr : rows.get(),
                            used, c_.n, channels};
    const Floats values = random(c_.n * channels), out(used * channels), back(c_.n * channels);
    gather_values(m, values.get(), out.get(), c_.threads);
    scatter_grads(m, out.get(), back.get(), c_.threads);
    must_be_finite(c_, back, "splat_weights");
  }

  void quads() {
    const QuadGrid grid = {c_.width, c_.height};
    const int64_t quads = quad_count(grid);
    const Buffer<int32_t> count(quads);
    const Buffer<int64_t> start(quads + 1);
    QuadWeightParams p = {};
    p.blend = blend_, p.min_weight = c_.dice.chance(2) ? 0.0f : 0.01f, p.count = count.get();
    weigh_tiles(p, c_.threads);
    start[0] = 0;
    for (int64_t q = 0; q < quads; ++q) start[q + 1] = start[q] + count[q];
    const Buffer<int32_t> row(start[quads]);
    const Buffer<uint16_t> weight(start[quads] * QUAD_PIXELS);
    p.start = start.get(), p.row = row.get(), p.weight = weight.get();
    weigh_tiles(p, c_.threads);
    const std::vector<int32_t> more = assign_rows(grid, start.get(), p.row, c_.n);
    const Buffer<int32_t> extra(static_cast<int64_t>(more.size()));
    for (size_t i = 0; i < more.size(); ++i) extra[i] = more[i];
    const QuadTable table = {grid, start.get(), row.get(), weight.get(),
                             more.empty() ? row.get() : extra.get(), c_.n, extra.count()};
    const int channels = 4 + c_.dice.below(20);
    const Floats values = random(c_.n * channels), out(c_.pixels() * channels),
                 back((c_.n + extra.count()) * channels);
    gather_quads({table, channels, values.get(), out.get()}, c_.threads);
    scatter_quads({table, channels, out.get(), back.get()}, c_.threads);
    must_be_finite(c_, out, "splat_quads");
    sample(table);
  }

 private:
  int degree() const { return c_.sh_stride >= 16 ? 3 : c_.sh_stride >= 4 ? 1 : 0; }

  Floats random(int64_t count) {
    Floats values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = c_.wild(c_.dice.normal());
    return values;
  }

  void sample(const QuadTable& table) {
    const Buffer<int64_t> pixels(c_.dice.below(50));
    for (int64_t i = 0; i < pixels.count(); ++i)
      pixels[i] = c_.dice.below(static_cast<int>(c_.pixels()));
    const Buffer<int64_t> start(pixels.count() + 1);
    const PixelRows rows(table, pixels.get(), pixels.count(), start.get(), c_.threads);
    const Buffer<int32_t> column(start[pixels.count()]);
    const Floats weight(start[pixels.count()]);
    rows.write(column.get(), weight.get());
    for (int64_t i = 0; i < column.count(); ++i)
      if (column[i] < 0 || column[i] >= static_cast<int64_t>(rows.touched().size())) std::abort();
  }

  // Some images have gradients; all parameters that they reach are wanted.
  void backward(const BlendParams& forward) {
    const int64_t n = c_.pixels();
    const int planes[] = {3, c_.channels, 1, 1, 1, 3, 1};
    std::vector<Floats> grads;
    for (int plane : planes) grads.push_back(random(plane * n));
    auto grad = [&](int i) {
      return c_.dice.chance(3) || !planes[i] ? nullptr : grads[i].get();
    };
    BlendGradParams b = {};
    b.forward = forward;
    b.color = grad(0), b.feature = grad(1), b.alpha = grad(2), b.depth = grad(3);
    b.median_depth = grad(4), b.normal = grad(5), b.distortion = grad(6);
    b.geometry = !c_.dice.chance(3);
    b.absolute = b.geometry && c_.dice.chance(2);
    const bool active[3] = {b.normal && b.geometry, b.color != nullptr, b.feature != nullptr};
    const int begin[3] = {0, 3, SHADE_CHANNELS}, end[3] = {3, 6, SHADE_CHANNELS + c_.channels};
    int last = 0;
    for (int i = 2; i >= 0; --i)
      if (active[i]) b.first_channel = begin[i];
    for (int i = 0; i < 3; ++i)
      if (active[i]) last = end[i];
    b.channel_count = last ? last - b.first_channel : 0;
    b.row_floats = (b.geometry ? MOMENTS : 0) + (b.channel_count + 15) / 16 * 16;
    if (b.row_floats == 0) return;
    const Floats rows(pairs_ * b.row_floats);
    b.rows = rows.get();
    blend_tiles_backward(b, c_.threads);
    parameters(b, rows);
  }

  void parameters(const BlendGradParams& b, const Floats& rows) {
    const int64_t n = c_.n;
    const Floats means(3 * n), scales(c_.scales() * n), rotations(4 * n), opacities(n),
        colors(3 * n), sh(c_.sh_stride * 3 * n), features(c_.channels * n), screen(3 * n),
        screen_abs(3 * n);
    ProjectGradParams g = {};
    g.forward = p_, g.offset = offset_.get(), g.rows = rows.get(), g.row_floats = b.row_floats;
    g.geometry = b.geometry, g.first_channel = b.first_channel, g.channel_count = b.channel_count;
    g.feature_count = c_.channels;
    std::vector<const Floats*> wanted;
    auto want = [&](const Floats& f, bool written) {
      if (!written || c_.dice.chance(4)) return static_cast<float*>(nullptr);
      wanted.push_back(&f);
      return f.get();
    };
    g.means = want(means, b.geometry), g.scales = want(scales, b.geometry);
    g.rotations = want(rotations, b.geometry), g.opacities = want(opacities, b.geometry);
    const int last = b.first_channel + b.channel_count;
    const bool color = b.channel_count && b.first_channel < SHADE_CHANNELS && last >= SHADE_CHANNELS;
    g.colors = want(colors, color && !c_.sh_stride), g.sh = want(sh, c_.sh_stride > 0 && color);
    g.features = want(features, b.channel_count && last > SHADE_CHANNELS);
    g.screen = want(screen, b.geometry), g.screen_abs = want(screen_abs, b.absolute);
    project_splats_backward(g, c_.threads);
    for (const Floats* f : wanted) must_be_finite(c_, *f, "a gradient");
  }

  Case& c_;
  Splats s_;
  Buffer<SplatRecord> records_;
  Buffer<Footprint> footprints_;
  Buffer<SplatShade> shades_;
  Buffer<TileBox> boxes_;
  Buffer<int32_t> radii_, offset_;
  ProjectParams p_;
  TileGrid grid_;
  int64_t pairs_ = 0;
  std::unique_ptr<Buffer<int32_t>> start_, splat_, row_, used_;
  std::unique_ptr<Buffer<uint32_t>> mask_;
  BlendParams blend_;
};

void image_losses_of(Case& c) {
  const int channels = 1 + c.dice.below(3);
  const int64_t n = c.pixels() * channels;
  const Floats image(n), target(n), weight(c.pixels()), slope(n), grad(n);
  for (int64_t i = 0; i < n; ++i)
    image[i] = c.wild(c.dice.uniform(0, 1)), target[i] = c.dice.uniform(0, 1);
  for (int64_t i = 0; i < c.pixels(); ++i) weight[i] = c.dice.chance(4) ? 0.0f : 1.0f;
  const bool learns = c.dice.chance(2);
  const ImageLossParams p = {image.get(), target.get(), c.dice.chance(2) ? weight.get() : nullptr,
                             channels, c.height, c.width, learns ? slope.get() : nullptr};
  const ImageSums sums = image_sums(p, c.threads);
  if (!learns) return;
  const float grads[2] = {0.8f, 0.2f};
  image_grads({p, grad.get()}, image_scales(sums.weight, channels, grads), c.threads);
  must_be_finite(c, grad, "image_loss");
}

void mask_losses_of(Case& c) {
  const int m = c.dice.below(40), d = 1 + c.dice.below(40);
  const int64_t n = c.dice.below(3000);
  const Floats queries(int64_t(m) * d), features(n * d), focal(m), dice(m), by_focal(m), by_dice(m),
      grad_queries(int64_t(m) * d), grad_features(n * d);
  const Buffer<int32_t> owner(n);
  const Buffer<MaskOverlap> overlap(m);
  for (const Floats* f : {&queries, &features, &by_focal, &by_dice})
    for (int64_t i = 0; i < f->count(); ++i) (*f)[i] = c.wild(c.dice.normal());
  for (int64_t i = 0; i < n; ++i) owner[i] = c.dice.below(m + 3) - 2;
  const float gammas[] = {0.0f, 1.5f, 2.0f};
  const MaskLossParams p = {queries.get(), features.get(), owner.get(), m, n, d, d,
                            gammas[c.dice.below(3)], c.dice.chance(2) ? -1.0f : 0.25f};
  mask_losses(p, focal.get(), dice.get(), overlap.get(), c.threads);
  mask_loss_grads(p, overlap.get(), by_focal.get(), by_dice.get(),
                  c.dice.chance(4) ? nullptr : grad_queries.get(),
                  c.dice.chance(4) ? nullptr : grad_features.get(), c.threads);
  must_be_finite(c, focal, "mask_loss");
}

}  // namespace

int main(int argc, char** argv) {
  const long cases = argc > 1 ? std::atol(argv[1]) : 300;
  Dice dice = {std::mt19937_64(argc > 2 ? std::atol(argv[2]) : 0)};
  long refused = 0;
  for (long i = 0; i < cases; ++i) {
    Case c = draw(dice);
    try {
      View view(c);
      view.images();
      view.weights();
      view.quads();
      image_losses_of(c);
      mask_losses_of(c);
    } catch (const std::exception& error) {  // documented: far too many pairs
      if (!std::strstr(error.what(), "pairs")) throw;
      ++refused;
    }
  }
  std::printf("%s: %ld cases, %ld refused\n", kernels().name, cases, refused);
}
