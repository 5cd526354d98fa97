# SPDX-License-Identifier: Apache-2.0
"""Attention against torch's own, the collapse of the literal equation, and the projection."""

from __future__ import annotations

import torch

from iqgs.methods.iqgs.decoder import (
    Attention,
    InstanceProjection,
    QueryDecoder,
    sample_keys,
    score,
)
from utils.tensors import select_rows


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_attention_is_torchs_scaled_dot_product_attention() -> None:
    attention = Attention(16, generator()).double()
    queries = torch.randn(5, 16, generator=generator(), dtype=torch.float64)
    context = torch.randn(40, 16, generator=generator(), dtype=torch.float64)
    expected = torch.nn.functional.scaled_dot_product_attention(
        (queries @ attention.query.T)[None],
        (context @ attention.key.T)[None],
        (context @ attention.value.T)[None],
    )[0]
    torch.testing.assert_close(attention(queries, context), expected @ attention.out.T)


def test_projection_commutes_with_blending() -> None:
    projection = InstanceProjection(8, 4, generator())
    attributes, weights = torch.randn(20, 8), torch.rand(6, 20) * 0.04  # alpha below 1
    torch.testing.assert_close(projection(weights @ attributes), weights @ projection(attributes))
    assert not projection(torch.zeros(1, 8)).any()


def test_enriched_queries_are_normalised_and_follow_the_order_of_the_queries() -> None:
    decoder = QueryDecoder(12, 16, generator(), residual=True)
    context = torch.randn(100, 16, generator=generator())
    queries = decoder(context)
    torch.testing.assert_close(queries.mean(1), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(queries.std(1, correction=0), torch.ones(12), atol=1e-3, rtol=0)
    order = torch.randperm(12, generator=generator())
    with torch.no_grad():
        decoder.queries.copy_(decoder.queries[order])
    torch.testing.assert_close(decoder(context), queries[order])


def test_queries_depend_on_the_view_but_not_on_the_order_of_its_pixels() -> None:
    decoder = QueryDecoder(4, 16, generator(), residual=True)
    context = torch.randn(50, 16, generator=generator())
    queries = decoder(context)
    shuffled = context[torch.randperm(50, generator=generator())]
    torch.testing.assert_close(decoder(shuffled), queries)
    assert not torch.allclose(decoder(context + 1.0), queries, atol=1e-3)
    assert torch.isfinite(decoder(context[:0])).all()


def test_without_residual_all_queries_are_the_same_at_small_features() -> None:
    context = torch.randn(200, 16, generator=generator()) * 0.05
    literal = QueryDecoder(10, 16, generator(), residual=False)(context)
    ours = QueryDecoder(10, 16, generator(), residual=True)(context)
    assert literal.std(0).mean() < 1e-3
    assert ours.std(0).mean() > 0.5


def test_logit_scale_multiplies_the_scores() -> None:
    decoder = QueryDecoder(3, 8, generator(), residual=True)
    context = torch.randn(9, 8, generator=generator())
    before = score(decoder(context), context)
    assert decoder.scale.item() == 1.0
    with torch.no_grad():
        decoder.scale.fill_(2.5)
    torch.testing.assert_close(score(decoder(context), context), 2.5 * before)


def test_select_rows_is_indexing_with_its_gradient() -> None:
    values = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([2, 2, 5, 0])
    torch.testing.assert_close(select_rows(values, index), values[index])
    assert torch.autograd.gradcheck(lambda v: select_rows(v, index), (values,))


def test_keys_are_pixels_or_means_of_them() -> None:
    features = torch.arange(14, dtype=torch.float64).reshape(7, 2)
    assert torch.equal(sample_keys(features, 7, False), features)
    assert torch.equal(sample_keys(features, 3, False), features[::3])
    pooled = sample_keys(features, 3, True)
    expected = torch.stack([features[:3].mean(0), features[3:6].mean(0), features[6]])
    torch.testing.assert_close(pooled, expected)
    assert torch.equal(sample_keys(features, 7, True), features)
    assert sample_keys(features[:0], 3, True).shape == (0, 2)
