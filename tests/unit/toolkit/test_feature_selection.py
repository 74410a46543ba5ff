"""``-s`` and ``-l``: what an upstream does not have is refused, what it has goes through."""

import pytest
from naming import naming
from toolkit_runner import new_runner

from s3prl_aalbert.errors import AalbertError


def build_featurizer(features="hidden_states", layer=None, upstream="aalbert_tiny", normalize=False):
    """Build the featurizer of an upstream as S3PRL's runner does."""
    runner = new_runner(upstream)
    runner.args.upstream_feature_selection, runner.args.upstream_layer_selection = features, layer
    runner.args.upstream_feature_normalize = normalize
    runner.upstream = runner._get_upstream()
    return runner._get_featurizer().model


def test_a_layer_and_features_that_exist():
    assert build_featurizer(layer=3).layer_selection == 3
    assert build_featurizer("last_hidden_state").feature_selection == "last_hidden_state"


@pytest.mark.parametrize("layer", [4, 99, -5])
def test_a_layer_that_does_not_exist(layer):
    with pytest.raises(AalbertError, match=naming(f"-l {layer}", "-u aalbert_tiny", "hidden_states", "0 to 3")):
        build_featurizer(layer=layer)


def test_a_layer_of_what_is_one_layer():
    with pytest.raises(AalbertError, match=naming("-l 1", "last_hidden_state", "-u aalbert_tiny")):
        build_featurizer("last_hidden_state", layer=1)


def test_a_layer_of_a_list_of_one():
    with pytest.raises(AalbertError, match=naming("-l 5", "hidden_states", "-u fbank")):
        build_featurizer(layer=5, upstream="fbank")


def test_features_that_do_not_exist():
    with pytest.raises(AalbertError, match=naming("-s last_hidden_stat", "-u aalbert_tiny")):
        build_featurizer("last_hidden_stat")


@pytest.mark.parametrize(
    ("features", "layer", "upstream"),
    [
        ("hidden_states", 2, "aalbert_tiny"),
        ("last_hidden_state", None, "aalbert_tiny"),
        ("hidden_states", None, "fbank"),
    ],
)
def test_nothing_is_normalised_but_layers_that_are_summed(features, layer, upstream):
    with pytest.raises(AalbertError, match="--upstream_feature_normalize"):
        build_featurizer(features, layer, upstream, normalize=True)
    assert build_featurizer(normalize=True).normalize
