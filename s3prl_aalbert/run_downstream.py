"""``python -m s3prl_aalbert.run_downstream`` is ``aalbert downstream``.

Under a launcher: ``torchrun --nproc_per_node 2 -m s3prl_aalbert.run_downstream ...``.
"""

import sys

from s3prl_aalbert.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["downstream", *sys.argv[1:]]))

if __name__ == "__mp_main__":  # a worker process that does not inherit this one's memory
    from s3prl_aalbert.toolkit import compat

    compat.apply()
