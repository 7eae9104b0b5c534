"""Metrics as plain functions on arrays; rules for empty masks are stated where they hold."""

from differseg_med.metrics._case import METRICS, case_metrics
from differseg_med.metrics._overlap import dice, iou, volume_ml
from differseg_med.metrics._surface import hd95, nsd

__all__ = ["METRICS", "case_metrics", "dice", "hd95", "iou", "nsd", "volume_ml"]
