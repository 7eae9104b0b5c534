"""From names and values of a size to the parts that DifferSeg is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from differseg_med.errors import ModelError
from differseg_med.networks._encoders import Encoder, ResidualEncoder
from differseg_med.networks._layers import Spec
from differseg_med.networks._sizes import DECODERS

__all__ = ["decoder_values", "level_channels", "lookup", "make_encoder"]


def lookup(table: Mapping[str, dict[str, Any]], name: str, argument: str) -> dict[str, Any]:
    """An entry of a table, or an error that lists the names."""
    if name not in table:
        raise ModelError("E_NETWORK", f"{argument} is {name!r}, expected one of {sorted(table)}")
    return table[name]


def make_encoder(
    spatial_dims: int,
    name: str,
    plan: Mapping[str, Any],
    options: Mapping[str, Any] | None,
    norm: Spec,
    act: Spec,
) -> Encoder:
    """An encoder by name, with the size's options for it and ``options`` over them."""
    arguments = {**lookup(plan["encoder_options"], name, "encoder"), **(options or {})}
    try:
        if name == "swin":
            from differseg_med.networks._swin import SwinEncoder

            return SwinEncoder(spatial_dims, **arguments)
        if name == "hiera":
            from differseg_med.networks._hiera import HieraEncoder

            return HieraEncoder(spatial_dims, **arguments)
        return ResidualEncoder(spatial_dims, **{"norm": norm, "act": act, **arguments})
    except TypeError as error:
        raise ModelError("E_NETWORK", f"encoder_options do not fit {name!r}: {error}") from error


def decoder_values(name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of a decoder by name, with ``options`` over them."""
    values = lookup(DECODERS, name, "decoder")
    unknown = sorted(set(options or {}) - set(values))
    if unknown:
        raise ModelError(
            "E_NETWORK", f"decoder_options holds {unknown}, expected some of {sorted(values)}"
        )
    return {**values, **(options or {})}


def level_channels(
    encoder: Encoder, channels: Sequence[int] | None, plan: Mapping[str, Any]
) -> list[int]:
    """Channels per level, finest first: those given, or as many of the size's as are needed."""
    if not isinstance(encoder, Encoder):
        raise ModelError(
            "E_NETWORK",
            f"{type(encoder).__name__} is not an encoder",
            "Give a module with out_channels, strides, make_stem and forward.",
        )
    levels = len(encoder.out_channels)
    found = [int(c) for c in channels or plan["decoder_channels"][:levels]]
    if len(found) != levels:
        raise ModelError(
            "E_NETWORK",
            f"decoder_channels has {len(found)} levels, the encoder {levels}",
        )
    return found
