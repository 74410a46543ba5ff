"""The sub-commands of `aalbert`, one module each: its typed function, add_arguments(parser) and main(args)."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from s3prl_aalbert.typed_options import call


def run_command(
    function: Callable[..., int | None], args: argparse.Namespace, form: str = "%(levelname)s: %(message)s"
) -> int:
    """Log in this form, call a command's function with its options, and return the exit code: its own, or else 0."""
    logging.basicConfig(level=logging.INFO, format=form)
    return call(function, args) or 0
