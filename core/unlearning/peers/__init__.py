"""The methods that HAMU is compared with, one a file: the file's name is the method's, ``build`` makes it.

To add one, add a file with ``build(sides: Sides) -> Peer`` (see ``core.unlearning.peer``). Nothing is imported here,
so that a process without torch can know the names.
"""

import pkgutil
from typing import Final

PEERS: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
