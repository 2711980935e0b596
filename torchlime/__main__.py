"""``python -m torchlime`` is the program ``torchlime``."""

import sys

from torchlime.cli import main

sys.exit(main())
