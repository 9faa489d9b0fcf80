"""``python -P wrong_clock.py SECONDS COMMAND…``: salvusctl in a process whose wall clock is so many seconds off.

As Python sees it, the driver of Cassandra included; git and ssh, which it runs, have the right one. Not faketime(1): in
0.9.10 a sleep until a monotonic time fails (EINVAL), and Python's ``time.sleep`` is one.
"""

import sys
import time

SHIFT = float(sys.argv.pop(1))
_time, _time_ns = time.time, time.time_ns
# Before anything else is loaded.
time.time, time.time_ns = lambda: _time() + SHIFT, lambda: _time_ns() + int(SHIFT * 1e9)

if __name__ == "__main__":
    from salvusctl.__main__ import main

    main()
