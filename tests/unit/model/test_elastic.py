"""Encoder options: groups, attention reuse, factorised projections, sub-networks and their exact extraction."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from naming import mentions, naming
from torch import Tensor

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.cli import main
from s3prl_aalbert.compress.extraction import extract, extracted_config
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import count_parameters
from s3prl_aalbert.model.config import AudioConfig, ConfigError, ModelConfig, TaskConfig, TransformerConfig, from_dict
from s3prl_aalbert.model.encoder import Encoder, EncoderLayer, sinusoid_positions
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.model.sub_network import Architecture, architecture_yaml, full_architecture, load_architecture
from s3prl_aalbert.upstream.expert import UpstreamExpert

SMALL = TransformerConfig(
    hidden_size=24, num_hidden_layers=4, num_attention_heads=4, intermediate_size=40, initializer_range=0.3
)


def built(config: TransformerConfig, seed: int = 0) -> Encoder:
    """An encoder with weights large enough for attention to matter."""
    torch.manual_seed(seed)
    encoder = Encoder(config)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


# ------------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (0, 0, 0, 0)),
        ({"share_layer": False}, (0, 1, 2, 3)),
        ({"num_hidden_groups": 2}, (0, 0, 1, 1)),
        ({"num_hidden_groups": 3}, (0, 0, 1, 2)),
        ({"layer_groups": (0, 1, 0, 1)}, (0, 1, 0, 1)),
    ],
)
def test_groups_between_shared_and_unshared(keys: dict, expected: tuple[int, ...]) -> None:
    config = replace(SMALL, **keys)
    assert config.group_of_layer == expected and not config.problems()
    one = count_parameters(EncoderLayer(SMALL))
    assert count_parameters(Encoder(config)) == one * (max(expected) + 1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layer_groups": [0, 1]}, naming("layer_groups", 2, 4)),
        ({"layer_groups": [0, 2, 1, 0]}, naming("layer_groups", "[0, 2, 1, 0]")),
        ({"num_hidden_groups": 5}, naming("num_hidden_groups", 5, 4)),
        ({"num_hidden_groups": 2, "layer_groups": [0, 0, 1, 1]}, naming("num_hidden_groups", "layer_groups")),
        ({"reuse_pattern": [1, 0, 0, 0]}, naming("reuse_pattern", "first layer")),
        ({"reuse_pattern": [0, 1, 2, 3]}, naming("reuse_pattern", "0 and 1")),
        ({"reuse_pattern": [0, 1, 0, 0], "layer_attention_heads": [2, 3, 4, 4]}, naming("layer 1", "layer 0", "heads")),
        ({"layer_attention_heads": [2, 3, 4, 5]}, naming("layer_attention_heads", 5, 4)),
        ({"position_encoding_size": 8}, naming("position_encoding_size", 8, "hidden_size", 24)),
        ({"num_attention_heads": 5}, naming("hidden_size", 24, "num_attention_heads", 5)),
        ({"embedding_size": 0}, naming("embedding_size", 0)),
    ],
)
def test_nonsense_is_refused_with_the_reason(keys: dict, message: str) -> None:
    values = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 40, **keys}
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, {"transformer": values})


# -------------------------------------------------------------------------------------------------------- reuse


def reference(encoder: Encoder, config: TransformerConfig, hidden: np.ndarray) -> np.ndarray:
    """The encoder for one utterance (T, D) in float64, head by head, with reuse as ARMHuBERT's paper describes it."""

    def weights(name: str) -> tuple[np.ndarray, np.ndarray]:
        module = getattr(layer, name)
        return module.weight.detach().double().numpy(), module.bias.detach().double().numpy()

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        weight, bias = weights(name)
        return x @ weight.T + bias

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        weight, bias = weights(name)
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * weight + bias

    dim = config.head_dim
    maps: list[np.ndarray] = []
    for group, reuses in zip(config.group_of_layer, config.reuses_attention, strict=True):
        layer = encoder.groups[group]
        value = linear("value", hidden)
        if not reuses:
            query, key = linear("query", hidden), linear("key", hidden)
            maps = []
            for head in range(config.num_attention_heads):
                columns = slice(head * dim, (head + 1) * dim)
                scores = np.exp(query[:, columns] @ key[:, columns].T / np.sqrt(dim))
                maps.append(scores / scores.sum(-1, keepdims=True))
        context = [m @ value[:, head * dim : (head + 1) * dim] for head, m in enumerate(maps)]
        hidden = norm("attention_norm", hidden + linear("attention_output", np.concatenate(context, -1)))
        inner = linear("intermediate", hidden)
        inner = torch.nn.functional.gelu(torch.from_numpy(inner)).numpy()
        hidden = norm("output_norm", hidden + linear("output", inner))
    return hidden


@pytest.mark.parametrize("pattern", [(0, 0, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1)])
@pytest.mark.parametrize("share", [True, False])
def test_reuse_is_that_of_the_paper(pattern: tuple[int, ...], share: bool) -> None:
    config = replace(SMALL, reuse_pattern=pattern, share_layer=share)
    encoder = built(config)
    hidden = torch.randn(1, 9, 24)
    found = encoder(hidden, None)[-1][0].detach().numpy()
    np.testing.assert_allclose(found, reference(encoder, config, hidden[0].double().numpy()), atol=2e-4)


def test_reuse_does_not_depend_on_the_batch() -> None:
    config = replace(SMALL, reuse_pattern=(0, 1, 1, 1), share_layer=False)
    encoder = built(config)
    lengths = torch.tensor([11, 4, 7])
    hidden = torch.randn(3, 11, 24)
    together = encoder(hidden, lengths)[-1]
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(hidden[row : row + 1, :length], None)[-1][0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-5)


def test_a_lent_map_has_seen_no_dropout() -> None:
    config = replace(SMALL, num_hidden_layers=2, reuse_pattern=(0, 1), attention_probs_dropout_prob=0.9)
    encoder = built(config).train()
    hidden = torch.randn(2, 6, 24)
    first, _ = full_architecture(config).layers(config)
    _, attention_map = encoder.groups[0](hidden, None, first, None)
    assert attention_map is not None
    torch.testing.assert_close(attention_map.sum(-1), torch.ones(2, 4, 6))


def test_reusing_layers_hold_no_query_and_key() -> None:
    plain = replace(SMALL, share_layer=False)
    saved = 2 * 2 * (24 * 24 + 24)  # two layers, query and key
    reusing = replace(plain, reuse_pattern=(0, 1, 0, 1))
    assert count_parameters(Encoder(plain)) - count_parameters(Encoder(reusing)) == saved
    shared = replace(SMALL, reuse_pattern=(0, 1, 0, 1))  # one set of weights, which computes attention elsewhere
    assert count_parameters(Encoder(shared)) == count_parameters(Encoder(SMALL))


@pytest.mark.parametrize("pattern", [None, (0, 1, 1, 0), (0, 0, 1, 1)])
@pytest.mark.parametrize("padded", [True, False])
def test_asking_for_some_tokens_gives_theirs(pattern: tuple[int, ...] | None, padded: bool) -> None:
    """The last layer run on some tokens alone says of them what it says when run on all."""
    encoder = built(replace(SMALL, reuse_pattern=pattern))
    hidden, lengths = torch.randn(3, 11, 24), torch.tensor([11, 4, 7]) if padded else None
    queries = torch.tensor([[0, 10, 3], [1, 1, 2], [6, 0, 5]])
    everything = encoder(hidden, lengths)
    some = encoder(hidden, lengths, queries=queries)
    for one, other in zip(everything[:-1], some[:-1], strict=True):
        assert torch.equal(one, other)
    for row in range(3):
        torch.testing.assert_close(some[-1][row], everything[-1][row, queries[row]], rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------------------------- sub-networks


def random_config(dice: random.Random) -> ModelConfig:
    layers = dice.randint(1, 5)
    groups = [0]
    for _ in range(layers - 1):
        groups.append(dice.randint(0, max(groups) + 1))
    head_size = dice.choice([None, 5])
    positions = dice.choice(["sinusoid", "convolutional", *(["rotary"] if head_size is None else [])])
    transformer = TransformerConfig(
        positions=positions,
        conv_position_kernel=5,
        conv_position_group_size=dice.choice([4, 7, 30]),
        hidden_size=24,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=40,
        layer_groups=tuple(groups),
        reuse_pattern=dice.choice([None, tuple([0] + [dice.randint(0, 1) for _ in range(layers - 1)])]),
        embedding_size=dice.choice([None, 6]),
        attention_head_size=head_size,
        initializer_range=0.3,
        centred=dice.choice([False, True]),
    )
    unit_weight = dice.choice([0.0, 1.0])
    return ModelConfig(
        transformer, AudioConfig(cmvn=dice.choice(["utterance", "corpus"])), TaskConfig(unit_weight=unit_weight)
    )


def random_architecture(dice: random.Random, config: TransformerConfig) -> Architecture:
    depth = dice.randint(1, config.num_hidden_layers)
    heads: list[int] = []
    for layer in range(depth):
        # A chain of reuse has at most its source's heads.
        most = heads[-1] if config.reuses_attention[layer] else config.num_attention_heads
        heads.append(dice.randint(1, most))
    inner = tuple(dice.randint(1, config.intermediate_size) for _ in range(depth))
    return Architecture(dice.randint(2, config.hidden_size), tuple(heads), inner)


def assert_extraction_is_exact(seed: int) -> None:
    dice = random.Random(seed)
    config = random_config(dice)
    torch.manual_seed(seed)
    supernet = MaskedPrediction(config).eval()
    arch = random_architecture(dice, config.transformer)
    small = extracted_config(config, arch)
    assert small.transformer.problems() == []
    alone = MaskedPrediction(small).eval()
    alone.load_state_dict(extract(supernet.state_dict(), config, arch))
    tokens, lengths = torch.randn(3, 12, config.input_dim), torch.tensor([12, 5, 8])
    with torch.no_grad():
        slices = supernet.model.encode(tokens, lengths, arch)
        own = alone.model.encode(tokens, lengths)
        heads = [(supernet.head(slices[-1].flatten(0, 1)), alone.head(own[-1].flatten(0, 1)))]
        if supernet.unit_head is not None:
            heads.append((supernet.unit_head(slices[-1].flatten(0, 1)), alone.unit_head(own[-1].flatten(0, 1))))
    assert len(slices) == len(own) == arch.num_hidden_layers + 1
    for one, other in [*zip(slices, own, strict=True), *heads]:
        assert torch.equal(one, other), (config.transformer, arch)
    # The whole of an extracted model is itself a sub-network: of the right sizes, hence idempotent.
    assert extracted_config(small, full_architecture(small.transformer)) == small


@pytest.mark.parametrize("seed", range(20))
def test_extraction_is_exact(seed: int) -> None:
    assert_extraction_is_exact(seed)


@pytest.mark.slow
def test_five_hundred_extractions_are_exact() -> None:
    for seed in range(20, 520):
        assert_extraction_is_exact(seed)


def test_a_forward_pass_leaves_no_trace() -> None:
    encoder = built(replace(SMALL, share_layer=False))
    hidden = torch.randn(2, 7, 24)
    arch = Architecture(16, (2, 1), (8, 40))
    before: list[Tensor] = encoder(hidden, None)
    part = encoder(hidden[..., :16], None, arch)
    for one, other in zip(before, encoder(hidden, None), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(part, encoder(hidden[..., :16], None, arch), strict=True):
        assert torch.equal(one, other)


def test_gradients_of_a_sub_network_stay_in_its_slices() -> None:
    encoder = built(SMALL).train()
    encoder(torch.randn(2, 7, 16), None, Architecture(16, (2,), (8,)))[-1].square().sum().backward()
    (layer,) = encoder.groups
    for name, rows, columns in (("query", 12, 16), ("attention_output", 16, 12), ("output", 16, 8)):
        gradient = getattr(layer, name).weight.grad
        assert gradient[:rows, :columns].abs().sum() > 0
        outside = gradient.clone()
        outside[:rows, :columns] = 0
        assert outside.abs().sum() == 0, name


def test_positions_of_a_sub_network_are_the_supernets() -> None:
    wide, narrow = sinusoid_positions(5, 24), sinusoid_positions(5, 16)
    assert not torch.allclose(wide[:, :16], narrow)
    config = ModelConfig(replace(SMALL, num_hidden_layers=1))
    small = extracted_config(config, Architecture(16, (4,), (40,)))
    assert small.transformer.position_encoding_size == 24


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (Architecture(25, (4,), (40,)), naming("hidden_size", 25, 24)),
        (Architecture(24, (4,) * 5, (40,) * 5), naming("num_hidden_layers", 5, 4)),
        (Architecture(24, (4, 0), (40, 41)), naming("num_attention_heads", "intermediate_size", "layer 1", 0, 41)),
        (Architecture(24, (2, 3), (40, 40)), naming("layer 1", "layer 0", "heads")),
        (Architecture(24, (2,), (40, 40)), r"\b1\b.*heads.*\b2\b"),
    ],
)
def test_what_is_no_sub_network(arch: Architecture, message: str) -> None:
    config = ModelConfig(replace(SMALL, reuse_pattern=(0, 1, 0, 0)))
    with pytest.raises(CheckpointError, match=message):
        extracted_config(config, arch)


# ------------------------------------------------------------------------------------- as users meet them


@pytest.fixture
def supernet(tmp_path: Path) -> Path:
    config = ModelConfig(replace(SMALL, share_layer=False))
    torch.manual_seed(3)
    save_release(tmp_path / "supernet", config, MaskedPrediction(config).state_dict(), card=CARD)
    return tmp_path / "supernet"


CARD = "---\nlicense: mit\n---\n\n# A supernet\n"
ARCH = "hidden_size: 16\nnum_hidden_layers: 2\nnum_attention_heads: [3, 1]\nintermediate_size: 20\n"


def test_an_upstream_runs_a_sub_network_or_its_extract_alike(supernet: Path, tmp_path: Path) -> None:
    arch = tmp_path / "arch.yaml"
    arch.write_text(ARCH)
    assert main(["extract", str(supernet), "--arch", str(arch), "-o", str(tmp_path / "small")]) == 0
    card = (tmp_path / "small" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n---\n\n# Sub-network of supernet")
    wavs = [torch.randn(16000), torch.randn(7000)]
    with torch.no_grad():
        sliced = UpstreamExpert(str(supernet), str(arch)).eval()(wavs)["hidden_states"]
        alone = UpstreamExpert(str(tmp_path / "small")).eval()(wavs)["hidden_states"]
    assert len(sliced) == len(alone) == 3 and sliced[0].size(-1) == 16
    assert all(torch.equal(one, other) for one, other in zip(sliced, alone, strict=True))
    assert architecture_yaml(load_architecture(arch)).replace("[20, 20]", "20") == ARCH


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (ARCH.replace("16", "160"), ["hidden_size", 160, 24]),
        (ARCH.replace("[3, 1]", "[3, 1, 2]"), ["num_attention_heads", 3, 2]),
        (ARCH.replace("hidden_size", "hiden_size"), ["hiden_size", 'did you mean "hidden_size"']),
    ],
)
def test_a_wrong_sub_network_is_one_sentence(
    supernet: Path, tmp_path: Path, capsys: pytest.CaptureFixture, text: str, named: list
) -> None:
    arch = tmp_path / "arch.yaml"
    arch.write_text(text)
    with pytest.raises(AalbertError, match=naming(*named)):
        UpstreamExpert(str(supernet), str(arch))
    assert main(["extract", str(supernet), "--arch", str(arch), "-o", str(tmp_path / "small")]) == 2
    assert mentions(capsys.readouterr().err, *named) and not (tmp_path / "small").exists()
