"""A process of Beam's own runner, of which errors alone are heard.

Beam's command for it, apache_beam.runners.worker.sdk_worker_main, takes no option for that.
"""
import logging
import sys

logging.disable(logging.WARNING)   # it greets while it is imported

from apache_beam.runners.worker import sdk_worker_main  # noqa: E402

if __name__ == "__main__":
    sdk_worker_main.main(sys.argv)
