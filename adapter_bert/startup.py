"""What a command sets before it imports TensorFlow. Imports nothing heavy."""
import gc
import os

# Python collects garbage after so many new objects, instead of 700. Importing TensorFlow and
# building a graph make millions of objects that all stay, so that looking for garbage among them
# again and again takes a third of that time and finds nothing.
OBJECTS_BETWEEN_COLLECTIONS = 100_000


def prepare() -> None:
    """Silences TensorFlow's greetings and makes its import and its graphs faster to build.

    A program that sets TF_CPP_MIN_LOG_LEVEL itself keeps its setting.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 50, 100)
