"""The rules of texts, without I/O: segments, fields, and the words that stop and start them.

One segmenter and one renderer serve preview, billing and sending, so that the three cannot disagree.
"""

from koinonia.sms.rendering import (
    LONGEST_VALUE,
    PLAIN_PATTERN,
    clean_value,
    field_names,
    is_plain,
    render,
    segment_bound,
    unknown_fields,
)
from koinonia.sms.segmentation import MOST_SEGMENTS, Encoding, Segmentation, segments

__all__ = [
    "LONGEST_VALUE",
    "MOST_SEGMENTS",
    "PLAIN_PATTERN",
    "Encoding",
    "Segmentation",
    "clean_value",
    "field_names",
    "is_plain",
    "render",
    "segment_bound",
    "segments",
    "unknown_fields",
]
