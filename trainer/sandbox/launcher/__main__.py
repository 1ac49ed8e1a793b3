"""Started as a script, with `-I -S`: nothing but the standard library and this package is found."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))

from trainer.sandbox.launcher.main import main  # noqa: E402

main(sys.argv[1:])
