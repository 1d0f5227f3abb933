"""python -m emoray"""

import sys

from emoray.home import leave_out_cwd

leave_out_cwd()

from emoray.commands.cli import main  # noqa: E402 - its libraries are not those of the folder that it was started in

sys.exit(main())
