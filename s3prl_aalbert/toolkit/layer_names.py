"""``python -m s3prl_aalbert.toolkit.layer_names -u NAME -k CKPT`` prints the layers that ``-l`` can select.

It prints their numbers, where 0 is the input of the first layer, or ``single`` for an upstream with one layer.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout

import numpy as np

from s3prl_aalbert.downstream.states import HIDDEN_STATES, hidden_states
from s3prl_aalbert.errors import EXIT_USER_ERROR, AalbertError
from s3prl_aalbert.model.config import SAMPLE_RATE
from s3prl_aalbert.printable import LONGEST_MESSAGE, printable
from s3prl_aalbert.toolkit.upstreams import build_upstream

SINGLE = "single"


def name_layers(upstream: str, ckpt: str | None, model_config: str | None, selection: str = HIDDEN_STATES) -> list[str]:
    """Return the possible values of ``-l``, from the upstream's output for one second of noise.

    Raises:
        AalbertError: the upstream or its checkpoint is wrong, or its output has no key ``selection``.
    """
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    built = build_upstream(upstream, ckpt, model_config).eval()
    count = len(hidden_states(built, noise, selection))
    return [SINGLE] if count == 1 else [str(layer) for layer in range(count)]


def main() -> int:
    """Print the layers on one line."""
    parser = argparse.ArgumentParser(prog="layer_names", description=__doc__)
    parser.add_argument("-u", "--upstream", metavar="NAME", required=True)
    parser.add_argument("-k", "--upstream_ckpt", metavar="CKPT")
    parser.add_argument("-g", "--upstream_model_config", metavar="YAML")
    parser.add_argument("-s", "--upstream_feature_selection", metavar="KEY", default=HIDDEN_STATES)
    args, _ = parser.parse_known_args()  # the rest, such as --device, is for `aalbert downstream`
    chosen = (args.upstream, args.upstream_ckpt, args.upstream_model_config, args.upstream_feature_selection)
    try:
        with redirect_stdout(sys.stderr):  # some upstreams print
            layers = name_layers(*chosen)
    except (AalbertError, OSError) as error:
        print(f"layer_names: {printable(error, LONGEST_MESSAGE)}", file=sys.stderr)
        return EXIT_USER_ERROR
    print(*layers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
