"""The calculated cost of SUPERB's grid against sums by hand, and the order in which the tasks run."""

import re

import pytest
import superb_cost

from s3prl_aalbert.model.config import load_model_config

TOKENS = 34  # of a second: 100 frames in threes
# aalbert_units: mel filters, deltas; embedding, convolution; then three layers of projections, maps, feed-forward.
FRONT = 100 * (257 * 80 + 5 * 80) + TOKENS * (480 * 512 + 16 * 32 * 32 * 31)
LAYERS = 3 * (4 * TOKENS * 512 * 512 + 2 * TOKENS * TOKENS * 512 + 2 * TOKENS * 512 * 2048)
SECOND = 2 * (FRONT + LAYERS)
HEAD = TOKENS * 512 * 256


def test_keyword_spotting_by_hand():
    """200,000 steps of 32 seconds; on dev 40 times 213 batches of 32; at seven rates."""
    batches, dev_batches = 200_000, 40 * 213
    model = load_model_config("aalbert_units")
    cost = superb_cost.cost_of("ks", model, superb_cost.Machine(1e12))
    assert (cost.steps, cost.batch, cost.cache_bytes) == (200_000, 32, None)
    assert cost.encoder == pytest.approx(7 * 32 * SECOND * (batches + dev_batches))
    assert cost.head == pytest.approx(7 * 32 * HEAD * (6 * batches + 2 * dev_batches))
    assert cost.hours == pytest.approx((cost.encoder + cost.head) / 1e12 / 3600)
    # A tenth of the steps at seven rates, the rest at two.
    assert cost.screened_hours == pytest.approx(cost.hours * (7 * 0.1 + 2 * 0.9) / 7)


def test_a_batch_takes_its_least_time():
    model = load_model_config("aalbert_units")
    cost = superb_cost.cost_of("ks", model, superb_cost.Machine(1e18, launch_seconds=0.01))
    assert cost.hours == pytest.approx(7 * (200_000 + 40 * 213) * 0.01 / 3600)


def test_speaker_verification_is_not_screened():
    cost = superb_cost.cost_of("asv", load_model_config("aalbert_units"), superb_cost.Machine(1e13))
    assert cost.batch == 50 and cost.screened_hours == cost.hours


def test_the_cache_holds_all_hidden_states_in_float16():
    cost = superb_cost.cost_of("pr", load_model_config("aalbert_units"), superb_cost.Machine(1e13))
    seconds = 28_539 * 12.7 + 2_703 * 7.2
    assert cost.cache_bytes == pytest.approx(seconds * 16_000 / 480 * 4 * 512 * 2)


def test_all_tasks_run_from_the_cheapest_to_the_dearest(repository):
    machine = superb_cost.Machine(superb_cost.H100_TFLOPS * 1e12 * superb_cost.USED_SHARE)
    order = superb_cost.order(load_model_config("aalbert_units"), machine)
    text = (repository / "scripts/superb/all.sh").read_text()
    assert re.search(r"TASKS:-([^}]*)", text)[1].split() == [*order, "qbe"]


def test_the_document_has_the_table(repository):
    models = {name: load_model_config(name) for name in ("aalbert_units", "aalbert_12l")}
    machine = superb_cost.Machine(superb_cost.H100_TFLOPS * 1e12 * superb_cost.USED_SHARE)
    assert superb_cost.markdown(models, machine) in (repository / "docs/submission.md").read_text()
