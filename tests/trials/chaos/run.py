"""Kill sidecars and Redis under a real Asynq load, then prove from what Redis wrote that nothing went wrong.

    python tests/trials/chaos/run.py --minutes 10 --seed 7

Prints one JSON report. Exit status: 0 nothing went wrong, 1 something did. `campaign.py` tells what is done,
`verdict.py` what is proved.
"""

import sys
from pathlib import Path

# The folder `tests`, for when this file is run as a program.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from trials.chaos.campaign import main  # noqa: E402 - it is found only from here on

if __name__ == "__main__":
    main()
