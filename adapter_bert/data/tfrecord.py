"""Records as a TFRecord file holds them, made without TensorFlow."""
import functools
import struct

import google_crc32c
import numpy as np

from adapter_bert.data.example_codec import each


def framed(records):
    """Records with their lengths before and their checksums after them, a list of bytes.

    Args:
      records: list of bytes.

    Source: tensorflow/core/lib/io/record_writer.h.
    """
    sizes = np.fromiter(map(len, records), np.int64, len(records))
    sums = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
    ends = masked(sums).astype("<u4").view("V4").tolist()
    return list(map(b"".join, zip(each(sizes, _head), records, ends, strict=True)))


@functools.lru_cache(maxsize=1 << 16)
def _head(size):
    packed = struct.pack("<Q", size)
    checksum = masked(np.array([google_crc32c.value(packed)], np.uint32))
    return packed + checksum.astype("<u4").tobytes()


def masked(sums):
    """Checksums as the file has them: rotated by 15 bits, plus a constant; uint32."""
    return (sums >> 15 | sums << 17) + np.uint32(0xA282EAD8)
