"""The rules of texts, without I/O: segments, fields, and the words that stop and start them.

One segmenter and one renderer serve preview, billing and sending, so that the three cannot disagree.
"""

from koinonia.sms.opting_out import says_how_to_opt_out, with_opt_out_line
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
from koinonia.sms.smart import (
    DOTS,
    ELLIPSIS,
    LINK_PATTERN,
    SMART_FROM,
    SMART_TO,
    Replacement,
    has_field_in_link,
    replacements,
    smart,
    smart_value,
)

__all__ = [
    "DOTS",
    "ELLIPSIS",
    "LINK_PATTERN",
    "LONGEST_VALUE",
    "MOST_SEGMENTS",
    "PLAIN_PATTERN",
    "SMART_FROM",
    "SMART_TO",
    "Encoding",
    "Replacement",
    "Segmentation",
    "clean_value",
    "field_names",
    "has_field_in_link",
    "is_plain",
    "render",
    "replacements",
    "says_how_to_opt_out",
    "segment_bound",
    "segments",
    "smart",
    "smart_value",
    "unknown_fields",
    "with_opt_out_line",
]
