"""Configuration: every shipped YAML parses, and every mistake is named, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from naming import naming

from s3prl_aalbert.model.config import (
    ConfigError,
    ModelConfig,
    find_config,
    from_dict,
    load_model_config,
    packaged_configs,
    read_yaml,
    samples_in,
    to_dict,
)
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.pretrain.stages import recipe_stages

SHIPPED = sorted(packaged_configs("upstream_configs").glob("*.yaml"))
PRETRAIN_YAMLS = [path for path in SHIPPED if path.stem.startswith(("pretrain_", "distill_"))]
MODEL_YAMLS = [path for path in SHIPPED if path not in PRETRAIN_YAMLS]


def test_samples_in_seconds() -> None:
    assert [samples_in(seconds) for seconds in (0.0, 1.5, 2.00001)] == [0, 24000, 32000]
    assert samples_in(1e305) == samples_in(float("inf")) > 10**18


def test_the_promised_presets_are_shipped() -> None:
    names = {path.stem for path in MODEL_YAMLS}
    promised = {f"{family}_{layers}l" for family in ("aalbert", "mockingjay") for layers in (3, 6, 12)}
    assert promised | {"original", "debug"} <= names
    assert PRETRAIN_YAMLS


@pytest.mark.parametrize("path", MODEL_YAMLS, ids=lambda path: path.stem)
def test_every_model_yaml_parses(path: Path) -> None:
    config = load_model_config(str(path))
    assert load_model_config(path.stem) == config


@pytest.mark.parametrize("path", PRETRAIN_YAMLS, ids=lambda path: path.stem)
def test_every_pretraining_yaml_parses(path: Path) -> None:
    values = read_yaml(path)
    if stages := values.pop("stages", None):
        model = read_yaml(find_config(path.stem.replace("pretrain", "aalbert"), "upstream_configs"))
        last = recipe_stages(model, {**values, "stages": stages}, Path("run"), str(path))[-1]
        assert last.model == model  # what the recipe ends with is the model of its name
    assert from_dict(PretrainConfig, values).runner.total_steps == values["runner"]["total_steps"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_misspelt_key_in_any_shipped_yaml_fails(path: Path) -> None:
    cls = PretrainConfig if path in PRETRAIN_YAMLS else ModelConfig
    values = read_yaml(path)
    section = next(iter(values))
    values[section]["not_a_key"] = 1
    with pytest.raises(ConfigError, match=f'unknown key "{section}.not_a_key"'):
        from_dict(cls, values)


@pytest.mark.parametrize(
    ("name", "layers", "shared"),
    [(f"{family}_{n}l", n, family == "aalbert") for family in ("aalbert", "mockingjay") for n in (3, 6, 12)],
)
def test_the_presets_have_the_papers_shape(name: str, layers: int, shared: bool) -> None:
    config = load_model_config(name)
    transformer, audio = config.transformer, config.audio
    assert (transformer.num_hidden_layers, transformer.share_layer) == (layers, shared)
    assert (transformer.hidden_size, transformer.num_attention_heads, transformer.intermediate_size) == (768, 12, 3072)
    assert (audio.win_samples, audio.hop_samples, audio.feature_dim) == (400, 160, 160)
    assert (config.input_dim, config.samples_per_token) == (480, 480)
    assert transformer.group_of_layer == (tuple([0] * layers) if shared else tuple(range(layers)))
    task = config.task
    assert (task.mask_proportion, task.zero_proportion, task.random_proportion) == (0.15, 0.8, 0.1)


def test_the_original_preset_is_the_run_as_it_was() -> None:
    config = load_model_config("original")
    audio = config.audio
    assert (audio.n_fft, audio.win_samples, audio.hop_samples, audio.target_dim) == (2048, 800, 200, 1025)
    assert (audio.target, audio.target_preemphasis, audio.log_floor) == ("db", 0.97, 1e-6)
    assert (audio.cmvn, audio.target_cmvn, audio.delta) == ("utterance", True, True)
    assert config.samples_per_token == 600  # 37.5 ms
    assert (config.task.dice, config.task.mask_consecutive) == ("utterance", 1)
    assert config.transformer.hidden_dropout_prob == config.transformer.attention_probs_dropout_prob == 0


def test_a_missing_section_or_key_takes_its_default() -> None:
    assert from_dict(ModelConfig, {}) == from_dict(ModelConfig, None) == ModelConfig()
    assert from_dict(ModelConfig, {"audio": None}) == ModelConfig()
    assert from_dict(ModelConfig, {"audio": {"hop_ms": 20}}).audio.hop_samples == 320


def test_a_configuration_survives_yaml() -> None:
    config = load_model_config("original")
    assert from_dict(ModelConfig, yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    values = yaml.safe_load("audio: {log_floor: 1e-6}")
    assert values["audio"]["log_floor"] == "1e-6"
    assert from_dict(ModelConfig, values).audio.log_floor == 1e-6


@pytest.mark.parametrize(
    ("values", "key", "suggestion"),
    [
        ({"transformer": {"hiden_size": 768}}, "transformer.hiden_size", "hidden_size"),
        ({"transfomer": {}}, "transfomer", "transformer"),
        ({"audio": {"hop": 10}}, "audio.hop", "hop_ms"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(values: dict, key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(ModelConfig, values, "model.yaml")
    assert str(error.value) == f'model.yaml: unknown key "{key}" (did you mean "{suggestion}"?)'


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("transformer", "hidden_size", "768"),
        ("transformer", "hidden_size", 768.0),
        ("transformer", "num_hidden_layers", True),
        ("transformer", "share_layer", 1),
        ("transformer", "share_layer", "yes"),
        ("transformer", "hidden_act", 3),
        ("transformer", "layer_norm_eps", "tiny"),
        ("transformer", "layer_norm_eps", [1e-12]),
        ("audio", "hop_ms", True),
        ("audio", "hop_ms", None),
        ("audio", "log_floor", float("nan")),
        ("audio", "target", None),
        ("task", "mask_consecutive", {"a": 1}),
    ],
)
def test_a_value_of_another_type_is_named(section: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(ModelConfig, {section: {key: value}})
    message = str(error.value)
    assert f'"{section}.{key}" is ' in message and "expected" in message and "\n" not in message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("transformer", "hidden_size", 0),
        ("transformer", "num_attention_heads", 7),
        ("transformer", "num_hidden_layers", -1),
        ("transformer", "downsample_rate", 0),
        ("transformer", "hidden_act", "swish"),
        ("transformer", "hidden_dropout_prob", 1.0),
        ("transformer", "attention_probs_dropout_prob", -0.1),
        ("audio", "n_fft", 256),
        ("audio", "n_fft", 513),
        ("audio", "hop_ms", 0),
        ("audio", "hop_ms", float("inf")),
        ("audio", "hop_ms", 161 / 16),
        ("audio", "win_ms", 0),
        ("audio", "win_ms", -25),
        ("audio", "win_ms", 0.01),
        ("audio", "sample_rate", 8000),
        ("audio", "num_mel_bins", 0),
        ("audio", "log_floor", 0),
        ("audio", "target", "mels"),
        ("audio", "cmvn", "speaker"),
        ("transformer", "positions", "relative"),
        ("task", "mask_layout", "random"),
        ("task", "num_units", 1),
        ("task", "units_per_token", 2),
        ("task", "unit_neighbours", -1),
        ("task", "unit_neighbours", 17),
        ("task", "neighbour_weight", 1.5),
        ("task", "mask_proportion", 0),
        ("task", "mask_proportion", 1.5),
        ("task", "zero_proportion", 0.95),
        ("task", "random_proportion", -0.1),
        ("task", "mask_consecutive", 0),
        ("task", "dice", "batch"),
    ],
)
def test_a_value_out_of_range_is_named(section: str, key: str, value: object) -> None:
    from_dict(ModelConfig, {section: {}})
    with pytest.raises(ConfigError, match=key):
        from_dict(ModelConfig, {section: {key: value, **({"unit_weight": 1} if key == "units_per_token" else {})}})


def test_older_files_say_cmvn_with_true_and_false() -> None:
    configs = [from_dict(ModelConfig, {"audio": {"cmvn": value}}) for value in (True, False)]
    assert [config.audio.cmvn for config in configs] == ["utterance", "none"]


def test_older_files_scale_the_positions_by_one() -> None:
    assert from_dict(ModelConfig, {"transformer": {"position_scale": 1.0}}) == ModelConfig()
    with pytest.raises(ConfigError, match="position_scale"):
        from_dict(ModelConfig, {"transformer": {"position_scale": 0.5}})


def test_all_problems_are_reported_at_once() -> None:
    values = {
        "transformer": {"hiden_size": 1, "share_layer": "yes"},
        "audio": {"target": "mels", "log_floor": -1},
        "task": {"mask_proportion": 2, "dice": "batch"},
        "taks": {},
    }
    with pytest.raises(ConfigError) as error:
        from_dict(ModelConfig, values, "model.yaml")
    message = str(error.value)
    for found in ("hiden_size", "share_layer", "audio.target", "log_floor", "mask_proportion", "task.dice", '"taks"'):
        assert found in message
    assert message.startswith("model.yaml: ") and message.count("; ") == 6


def test_a_section_that_is_no_mapping_is_named() -> None:
    with pytest.raises(ConfigError, match=naming("audio", 3, "mapping")):
        from_dict(ModelConfig, {"audio": 3})


def test_a_required_key_and_sequences_are_checked() -> None:
    @dataclass(frozen=True)
    class Inner:
        names: tuple[str, ...]
        betas: tuple[float, float] = (0.9, 0.999)
        limit: int | None = None

    assert from_dict(Inner, {"names": ["a", "b"], "betas": [0, "1e-1"]}) == Inner(("a", "b"), (0.0, 0.1))
    for values, message in [
        ({}, 'missing key "names"'),
        ({"names": "ab"}, '"names" is'),
        ({"names": ["a", 1]}, '"names" is'),
        ({"names": [], "betas": [1]}, '"betas" is'),
        ({"names": [], "limit": "3"}, "limit.*null"),
    ]:
        with pytest.raises(ConfigError, match=message):
            from_dict(Inner, values)


def test_a_config_is_found_by_path_or_packaged_name(tmp_path: Path) -> None:
    own = tmp_path / "aalbert_3l.yaml"
    own.write_text("transformer: {num_hidden_layers: 5}\n", encoding="utf-8")
    assert load_model_config(str(own)).transformer.num_hidden_layers == 5
    assert load_model_config("aalbert_3l.yaml") == load_model_config("aalbert_3l")
    with pytest.raises(ConfigError, match=r'did you mean "aalbert_6l"\?'):
        find_config("aalbet_6l", "upstream_configs")
    with pytest.raises(
        ConfigError, match=naming(tmp_path / "aalbert_6l.yaml")
    ):  # a path is never answered with a packaged file
        find_config(str(tmp_path / "aalbert_6l.yaml"), "upstream_configs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "list"),
        (b"just text\n", "str"),
        (b"audio: {hop_ms: 10\n", "not valid YAML"),
        (b"audio: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"\xff\xfe\x00\x01", "not valid YAML"),
        (b"audio:\n  hop_ms: 10\ntask: {}\naudio:\n  num_mel_bins: 40\n", 'line 4 has "audio" a second time'),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)


def test_an_empty_or_missing_file(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert read_yaml(tmp_path / "empty.yaml") == {}
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(ConfigError, match=naming(path)):
            read_yaml(path)
