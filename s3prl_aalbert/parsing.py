"""The parser of options of every command."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from s3prl_aalbert.errors import AalbertError, did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser whose error message is one sentence and names the nearest option or choice."""

    def error(self, message: str) -> NoReturn:
        """Raise AalbertError."""
        unknown = re.match(r"unrecognized arguments: (?:.* )?(--?[^\s=]+)", message)
        choice = re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        near = ""
        if unknown:
            near = did_you_mean(unknown[1], self._option_string_actions)
        elif choice:
            near = did_you_mean(choice[1], re.findall(r"[^\s',]+", choice[2]))
        raise AalbertError(f"{message}{near}; see `{self.prog} --help`")
