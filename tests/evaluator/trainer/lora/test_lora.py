"""LoRA students on small, randomly initialised strong models: fused slots, trainings, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_examples import (
    ARCHITECTURES,
    DEPTH,
    ROWS,
    SIZES,
    assert_same_bits,
    bent,
    random_parameters,
    save_strong,
    slot_of,
    stack,
    train,
    write_testbed,
)
from torch import nn
from transformers import DebertaV2Config, DebertaV2Model

from evaluator.errors import EvaluatorError
from evaluator.strong import StrongModel
from evaluator.trainer.adapters import Frozen
from evaluator.trainer.lora import LoraModel
from evaluator.trainer.trunk import Trunk
from recipes.contract import OPTIMISERS

pytestmark = pytest.mark.slow


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_slot_has_the_same_bits_alone_and_among_any_neighbours(trunks, data):
    trunk = trunks[data.draw(st.sampled_from(sorted(trunks)))]
    model = LoraModel(
        trunk,
        data.draw(st.integers(1, 5), "rank"),
        data.draw(st.sampled_from([None, 1, 2]), "trainable_layers"),
    )
    slots, batch = data.draw(st.integers(2, 6), "slots"), data.draw(st.integers(1, 9), "batch")
    rows = torch.tensor(
        data.draw(st.lists(st.integers(0, ROWS - 1), min_size=slots * batch, max_size=slots * batch))
    ).view(slots, batch)
    several = [random_parameters(model, seed) for seed in range(slots)]
    gradients = model.gradients(stack(several), rows, bent)
    logits = model.logits(stack(several), "fitness", rows)
    for slot, parameters in enumerate(several):
        alone = stack([parameters])
        assert_same_bits(
            {n: g[slot] for n, g in gradients.items()},
            {n: g[0] for n, g in model.gradients(alone, rows[[slot]], bent).items()},
        )
        assert torch.equal(logits[slot], model.logits(alone, "fitness", rows[[slot]])[0])


@pytest.mark.parametrize("biased", [False, True])
def test_a_frozen_product_rounds_by_its_own_rows(biased):
    """A plain product of all slots' rows does not: few rows take another path through the library than many.

    Each slot's numbers fill whole cache lines here, as `tokens.bucket` sees to: the library rounds by where
    operands begin in one.
    """
    generator = torch.Generator().manual_seed(0)
    for width_in, width_out in [(16, 16), (48, 80), (96, 288)]:
        weight, bias = (
            torch.randn(width_out, width_in, generator=generator),
            torch.randn(width_out, generator=generator),
        )
        frozen = Frozen(weight, bias if biased else None)
        for slots, rows in [(2, 1), (3, 2), (8, 3), (5, 16), (16, 1)]:
            inputs = torch.randn(slots, rows, width_in, generator=generator)
            gradient = torch.randn(slots, rows, width_out, generator=generator)
            for slot in range(slots):
                assert torch.equal(frozen(inputs)[slot], frozen(inputs[[slot]])[0])
                assert torch.equal(frozen.backward(gradient)[slot], frozen.backward(gradient[[slot]])[0])
            torch.testing.assert_close(
                frozen(inputs), nn.functional.linear(inputs, weight, frozen.bias), rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(frozen.backward(gradient), gradient @ weight, rtol=1e-4, atol=1e-4)


def test_a_slots_activations_fill_whole_vectors(trunk):
    """torch rounds exp and tanh otherwise in the remainder of a vectorised loop; where that lies would depend
    on the neighbours.
    """
    split = trunk.split("train")
    for row in range(ROWS):
        length = split.padded_length(np.array([row]))
        assert length >= split.lengths[row].max()
        for width_in, width_out in trunk.adaptable(0).values():
            assert length * width_in % 32 == length * width_out % 32 == 0


def test_texts_without_padding_do_not_change_their_neighbours_path(trunks):
    trunk = trunks["bert", "single"]
    model, split = LoraModel(trunk, 2, None), trunk.split("train")
    padded = [split.padded_length(np.array([row])) for row in range(ROWS)]
    spare = padded - split.lengths[:, 0]
    full, part = next(
        (a, b)
        for a in range(ROWS)
        for b in range(ROWS)
        if padded[a] == padded[b] and spare[a] == 0 < spare[b]
    )
    several = [random_parameters(model, seed) for seed in range(2)]
    logits = model.logits(stack(several), "train", torch.tensor([[full], [part]]))
    for slot, row in enumerate((full, part)):
        assert torch.equal(
            logits[slot], model.logits(stack([several[slot]]), "train", torch.tensor([[row]]))[0]
        )


trainings = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**62),
        "rows": st.lists(st.integers(0, ROWS - 1), min_size=8, max_size=20).map(np.array),
        "learning_rate": st.sampled_from([1e-3, 1e-2]),
        "epochs": st.sampled_from([0.5, 1.0, 2.5]),
        "optimiser": st.sampled_from(OPTIMISERS),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
    rank=st.integers(1, 5),
    batch_size=st.integers(1, 8),
    specs=st.lists(trainings, min_size=2, max_size=5),
)
def test_a_training_ends_the_same_to_the_bit_whoever_trains_beside_it(
    trunks, architecture, rank, batch_size, specs
):
    model = LoraModel(trunks[architecture, "single"], rank, 2)
    for spec, slot in zip(
        specs, train(*(slot_of(model, batch_size=batch_size, **spec) for spec in specs)), strict=True
    ):
        (alone,) = train(slot_of(model, batch_size=batch_size, **spec))
        assert_same_bits(slot.parameters, alone.parameters)
        assert slot.history == alone.history


def test_training_fits_its_targets(trunk):
    model = LoraModel(trunk, 4, None)
    slot = slot_of(model, 0, np.arange(20), 1e-2, epochs=20.0)
    before = model.initial_parameters(0)
    train(slot)
    logits = model.logits(stack([slot.parameters]), "train", torch.arange(20)[None])[0]
    assert slot.history[-1].loss < 0.5 * slot.history[0].loss
    assert (logits.argmax(-1) == torch.arange(20) % 2).float().mean() > 0.8
    assert all(not torch.equal(value, before[name]) for name, value in slot.parameters.items())


def test_many_rows_come_in_the_order_asked_for(trunk):
    model = LoraModel(trunk, 2, 1)
    parameters = stack([random_parameters(model, seed) for seed in range(2)])
    rows = torch.stack(
        [torch.randperm(400, generator=torch.Generator().manual_seed(seed)) % ROWS for seed in range(2)]
    )
    logits = model.logits(parameters, "fitness", rows)
    ordered = model.logits(parameters, "fitness", torch.arange(ROWS).expand(2, -1))
    torch.testing.assert_close(
        logits, torch.stack([ordered[slot][rows[slot]] for slot in range(2)]), rtol=1e-4, atol=1e-4
    )


def test_the_seed_decides_the_start(trunks):
    model = LoraModel(trunks["llama", "single"], 4, None)
    first, again, other = (model.initial_parameters(seed) for seed in (0, 0, 1))
    assert_same_bits(first, again)
    down = first["layers.0.mlp.down_proj.lora_A"]
    assert not torch.equal(down, other["layers.0.mlp.down_proj.lora_A"])
    assert down.shape == (4, 50) and 0.8 < down.abs().max() * 50**0.5 <= 1
    assert not first["layers.0.mlp.down_proj.lora_B"].any()


def test_equal_structures_fuse_and_others_do_not(trunks):
    trunk = trunks["llama", "single"]
    assert LoraModel(trunk, 4, None).key == LoraModel(trunk, 4, DEPTH).key
    assert len({LoraModel(trunk, rank, layers).key for rank in (1, 2) for layers in (1, 2, 3)}) == 6


def test_what_cannot_be_is_said_so(trunks, tmp_path):
    trunk = trunks["llama", "single"]
    with pytest.raises(EvaluatorError, match="rank 0"):
        LoraModel(trunk, 0, None)
    for layers in (0, DEPTH + 1):
        with pytest.raises(EvaluatorError, match=f"1 to {DEPTH}"):
            LoraModel(trunk, 2, layers)
    bare = Trunk(StrongModel.load(trunk.strong.description.folder), trunk.testbed)
    bare._base.layers = nn.Sequential(*bare._base.layers)
    with pytest.raises(EvaluatorError, match="no list of 3 blocks"):
        Trunk(bare.strong, bare.testbed)


def test_a_model_that_shares_inputs_between_texts_is_refused(tmp_path):
    """DeBERTa's attention projects its relative positions, once for all texts, with the layers that carry
    adapters.
    """
    config = DebertaV2Config(
        **SIZES,
        intermediate_size=48,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        share_att_key=True,
    )
    folder = save_strong(DebertaV2Model, config, tmp_path / "deberta")
    model = LoraModel(
        Trunk(StrongModel.load(folder), write_testbed(tmp_path / "testbed", "single", folder)), 2, None
    )
    with pytest.raises(EvaluatorError, match="can't use it"):
        model.logits(stack([model.initial_parameters(0)] * 2), "train", torch.tensor([[0, 1], [2, 3]]))
