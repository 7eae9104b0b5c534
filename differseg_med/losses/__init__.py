"""Losses: the structure loss, deep supervision over a list of outputs, and sums of losses."""

from differseg_med.losses._combine import DeepSupervisionLoss, WeightedSumLoss
from differseg_med.losses._structure import StructureLoss, structure_loss

__all__ = ["DeepSupervisionLoss", "StructureLoss", "WeightedSumLoss", "structure_loss"]
