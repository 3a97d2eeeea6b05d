"""``python -m conformance.simulator --kubeconfig FILE --logs DIR [--ready FILE]``."""

import sys

from conformance.simulator.process import main

if __name__ == "__main__":
    sys.exit(main())
