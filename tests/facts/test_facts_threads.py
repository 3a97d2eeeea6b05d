import subprocess
import sys

# Fresh interpreters, because what is guarded against happens at the first use of a type only.
READ_AT_ONCE = """
import sys, threading
sys.setswitchinterval(1e-6)
from conformance.facts.decoding import Harvest
from conformance.facts.kinds import KINDS
harvests = [Harvest(kind) for kind in KINDS.values()]
start = threading.Barrier(len(harvests))
def fill(harvest):
    start.wait()
    harvest.add_page(b'{"items": [{"metadata": {"name": "a"}}]}')
threads = [threading.Thread(target=fill, args=(harvest,)) for harvest in harvests]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_threads_that_decode_types_for_the_first_time_do_not_crash_the_interpreter():
    for _ in range(5):
        assert subprocess.run([sys.executable, "-c", READ_AT_ONCE], check=False).returncode == 0
