"""Metrics as plain functions on arrays, and what is made of them over cases.

Names, units, rules for empty masks and sources are declared once, in `METRICS`.
"""

from differseg_med.metrics._case import case_metrics, check_names, failed_metrics
from differseg_med.metrics._lesions import Lesions, count_lesions, missed_voxels
from differseg_med.metrics._overlap import (
    dice,
    iou,
    miou_two_class,
    precision,
    sensitivity,
    volume_ml,
)
from differseg_med.metrics._statistics import (
    Paired,
    Summary,
    aggregated_dice,
    holm,
    paired_test,
    summarise,
)
from differseg_med.metrics._surface import assd, hd95, nsd
from differseg_med.metrics._table import METRICS, SET_METRICS, Metric, metrics_page

__all__ = [
    "METRICS",
    "SET_METRICS",
    "Lesions",
    "Metric",
    "Paired",
    "Summary",
    "aggregated_dice",
    "assd",
    "case_metrics",
    "check_names",
    "count_lesions",
    "dice",
    "failed_metrics",
    "hd95",
    "holm",
    "iou",
    "metrics_page",
    "miou_two_class",
    "missed_voxels",
    "nsd",
    "paired_test",
    "precision",
    "sensitivity",
    "summarise",
    "volume_ml",
]
