// SPDX-License-Identifier: Apache-2.0
// Products with stored blending weights on a GPU.
#include "../cuda/products.h"

#include <ATen/ops/cumsum.h>
#include <ATen/ops/index_select.h>

#include "cuda_prepare.h"
#include "library.h"
#include "quads.h"
#include "sparse.h"

namespace iqgs {
namespace torch_binding {
namespace {

Tensor splat_weights(const Tensor& row_start, const Tensor& splat, const Tensor& weight,
                     const Tensor& rows, bool all_rows, const Tensor& values, int64_t stream) {
  const char* const name = "splat_weights";
  TORCH_CHECK_VALUE(values.dim() == 2, name, ": values must have shape [N, C], got ",
                    values.sizes());
  check(name, "values", values, values.sizes(), row_start.device());
  const OnDevice on(values.device(), stream);
  const Tensor dense = values.contiguous();
  const SparseParams p =
      sparse_params(name, row_start, splat, weight, rows, all_rows, dense.size(0), dense.size(1));
  Tensor out = floats({p.row_count, p.channels}, values.device());
  if (out.numel()) cuda::gather_rows(p, data<float>(dense), data<float>(out), on.stream);
  return out;
}

// Where the entries of the chosen rows lie among all of theirs, [P + 1].
Tensor places_of(const Tensor& row_start, const Tensor& rows) {
  const int64_t count = rows.numel();
  const Tensor ends = at::index_select(row_start, 0, rows.add(1));
  const Tensor counts = ends.sub(at::index_select(row_start, 0, rows));
  Tensor place = uninitialised({count + 1}, at::kLong, rows.device());
  place.narrow(0, 0, 1).zero_();
  place.narrow(0, 1, count).copy_(at::cumsum(counts, 0));
  return place;
}

Tensor splat_weights_backward(const Tensor& row_start, const Tensor& splat, const Tensor& weight,
                              const Tensor& rows, bool all_rows, const Tensor& grad,
                              int64_t splat_count, int64_t stream) {
  const char* const name = "splat_weights_backward";
  TORCH_CHECK_VALUE(grad.dim() == 2, name, ": grad must have shape [P, C], got ", grad.sizes());
  const OnDevice on(row_start.device(), stream);
  const Tensor dense = grad.contiguous();
  const SparseParams p =
      sparse_params(name, row_start, splat, weight, rows, all_rows, splat_count, dense.size(1));
  check(name, "grad", dense, {p.row_count, p.channels}, row_start.device());
  // With chosen rows their number of entries is read back; a step's rows are all of its own table.
  const Tensor place = all_rows ? row_start : places_of(row_start, rows);
  const int64_t entries = all_rows ? splat.numel() : place[p.row_count].item<int64_t>();
  TORCH_CHECK_VALUE(splat.numel() < (int64_t(1) << 32), name, ": at most 2^32 - 1 weights, got ",
                    splat.numel());
  Tensor memory = bytes(cuda::scatter_rows_bytes(entries, splat_count, p.channels), grad.device());
  Tensor out = floats({splat_count, p.channels}, grad.device());
  if (out.numel())
    cuda::scatter_rows(p, data<int64_t>(place), entries, data<float>(dense), data<float>(out),
                       data<void>(memory), on.stream);
  return out;
}

Tensor splat_quads(at::TensorList weights, at::IntArrayRef sizes, const Tensor& values,
                   int64_t stream) {
  const char* const name = "splat_quads";
  const QuadTable table = take_quads(name, weights, sizes);
  const OnDevice on(weights[0].device(), stream);
  const Tensor dense = values.contiguous();
  check_rows(name, "values", dense, table.splat_count, weights[0].device());
  const int channels = static_cast<int>(dense.size(1));
  Tensor out = floats({pixels_of(table), channels}, values.device());
  cuda::gather_quads(table, channels, data<float>(dense), data<float>(out), on.stream);
  return out;
}

// The order of the entries by splat: start [N + 1] int64, place [E, 2] int32, see `EntryPlace`.
cuda::EntriesBySplat take_order(const char* name, at::TensorList by_splat, const QuadTable& table,
                                const Tensor& row) {
  TORCH_CHECK_VALUE(by_splat.size() == 2, name, ": expected start and place of the entries by splat, ",
                    "got ", by_splat.size(), " tensors");
  const int64_t entries = row.numel();
  check(name, "start", by_splat[0], {table.splat_count + 1}, row.device(), at::kLong);
  check(name, "place", by_splat[1], {entries, 2}, row.device(), at::kInt);
  for (const Tensor& t : by_splat)
    TORCH_CHECK_VALUE(t.is_contiguous(), name, ": the order of the entries must be contiguous");
  return {data<int64_t>(by_splat[0]), data<cuda::EntryPlace>(by_splat[1]), table.splat_count,
          entries};
}

Tensor splat_quads_backward(at::TensorList weights, at::IntArrayRef sizes, at::TensorList by_splat,
                            const Tensor& grad, int64_t stream) {
  const char* const name = "splat_quads_backward";
  const QuadTable table = take_quads(name, weights, sizes);
  const OnDevice on(weights[0].device(), stream);
  const Tensor dense = grad.contiguous();
  check_rows(name, "grad", dense, pixels_of(table), weights[0].device());
  const int channels = static_cast<int>(dense.size(1));
  const cuda::EntriesBySplat by = take_order(name, by_splat, table, weights[1]);
  Tensor memory = bytes(cuda::scatter_quads_bytes(by.entries, channels), grad.device());
  Tensor out = floats({table.splat_count, channels}, grad.device());
  if (out.numel())
    cuda::scatter_quads(table, by, channels, data<float>(dense), data<float>(out),
                        data<void>(memory), on.stream);
  return out;
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("splat_weights", splat_weights);
  m.impl("splat_weights_backward", splat_weights_backward);
  m.impl("splat_quads", splat_quads);
  m.impl("splat_quads_backward", splat_quads_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
