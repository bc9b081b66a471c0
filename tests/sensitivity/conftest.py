"""Makes the derivative check importable by name; test directories are no packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
