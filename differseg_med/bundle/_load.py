"""A bundle becomes a predictor: its network, its weights, its inferer and its preparation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from differseg_med.bundle._locate import BundleInfo
from differseg_med.errors import BundleError, DifferSegError, UsageError

__all__ = ["BundlePredictor", "check_trust", "load_predictor"]


class BundlePredictor:
    """Probability of the foreground by a bundle's network; a `differseg_med.engine.Predictor`.

    Args:
        info: what the bundle takes.
        network: image to logits.
        inferer: slides the network over the image.
        prepare: takes and returns ``{"image": (C, *space)}``.
        device: where the network runs.
    """

    def __init__(
        self,
        info: BundleInfo,
        network: torch.nn.Module,
        inferer: Callable[..., torch.Tensor],
        prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        device: torch.device,
    ) -> None:
        self.modalities = info.modalities
        self.required = info.required
        self.reference = info.reference
        self.spacing = info.spacing
        self.min_overlap = info.min_overlap
        self.window: tuple[int, ...] = tuple(getattr(inferer, "roi_size", ()))
        self.device = device
        self._network = network.to(device).eval()
        self._inferer = inferer
        self._prepare = prepare

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Image (1, C, *space) in the modalities' units, NaN where absent, to (1, 1, *space)."""
        prepared = self._prepare({"image": image[0]})["image"]
        with torch.inference_mode():
            logits = self._inferer(prepared[None].to(self.device), self._network)
            return torch.sigmoid(logits.float()).cpu()


def load_predictor(
    info: BundleInfo,
    weights: str | Path | None = None,
    device: str = "cpu",
    *,
    trust: bool = False,
    progress: bool = False,
) -> BundlePredictor:
    """Build a bundle's predictor from ``configs/inference.yaml`` and its weights.

    Args:
        info: the bundle.
        weights: file to load instead of the bundle's own (``.safetensors`` or ``.pt``).
        device: such as ``cpu`` or ``cuda``.
        trust: run the configuration of a bundle that is not one of this distribution.
        progress: show on stderr how far a sliding window has come.

    Raises:
        BundleError: ``E_TRUST``, ``E_CONFIG`` or ``E_WEIGHTS``.
        UsageError: ``E_PATH`` or ``E_OPTION``.
    """
    check_trust(info, trust=trust)
    if info.spatial_dims != 3:
        raise BundleError(
            "E_CONFIG", f"the bundle {info.name} is for 2D images; studies are volumes"
        )
    path = find_weights(info, weights)
    place = _device(device)
    parser = _read(info)
    parser["device"] = place
    network = _build(parser, "network_def")
    if not isinstance(network, torch.nn.Module):
        raise BundleError("E_CONFIG", f"network_def of {info.name} is not a network")
    _load_state(network, _read_state(path), path.name)
    inferer = _build(parser, "inferer")
    if hasattr(inferer, "progress"):
        inferer.progress = progress
    return BundlePredictor(info, network, inferer, _build(parser, "prepare"), place)


def check_trust(info: BundleInfo, *, trust: bool) -> None:
    """Refuse a foreign bundle unless it was trusted: its configuration can run any code.

    Args:
        info: the bundle.
        trust: whether the user said so.

    Raises:
        BundleError: ``E_TRUST``.
    """
    if not (info.trusted or trust):
        raise BundleError("E_TRUST", f"the bundle {info.name} is not part of this distribution")


def find_weights(info: BundleInfo, weights: str | Path | None = None) -> Path:
    """The file that weights are loaded from.

    Args:
        info: the bundle.
        weights: a file to use instead of the bundle's own.

    Raises:
        UsageError: ``E_PATH`` when the file is not there.
        BundleError: ``E_WEIGHTS`` when the bundle has none and none were given.
    """
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise UsageError("E_PATH", f"there are no weights at {weights}")
        return path
    if info.weights is None:
        raise BundleError(
            "E_WEIGHTS",
            f"the bundle {info.name} has no trained weights",
            "Train it, or give weights with --weights.",
        )
    return info.weights


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError("E_OPTION", f"there is no device {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("E_OPTION", f"device {name!r} was asked for and torch sees no GPU")
    return device


def _read(info: BundleInfo) -> ConfigParser:
    path = info.root / "configs" / "inference.yaml"
    if not path.is_file():
        raise BundleError("E_CONFIG", f"the bundle {info.name} has no configs/inference.yaml")
    parser = ConfigParser()
    try:
        parser.read_config(str(path))
        parser.read_meta(str(info.root / "configs" / "metadata.json"))
    except Exception as error:  # whatever a YAML or JSON reader raises
        raise BundleError("E_CONFIG", f"{path.name} of {info.name}: {_line(error)}") from error
    return parser


def _build(parser: ConfigParser, key: str) -> Any:
    """One object of the configuration; MONAI's long traces become one line with the key."""
    if key not in parser:
        raise BundleError("E_CONFIG", f"inference.yaml has no key {key!r}")
    try:
        return parser.get_parsed_content(key)
    except DifferSegError:
        raise
    except Exception as error:  # whatever the constructor that is named there raises
        raise BundleError("E_CONFIG", f"key {key!r} of inference.yaml: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """The innermost cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"


def _read_state(path: Path) -> Mapping[str, Any]:
    """Tensors by name; nothing that could run code is ever unpickled."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise what the bytes make them raise
        raise BundleError("E_WEIGHTS", f"{path.name}: {_line(error)}") from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping):
        raise BundleError("E_WEIGHTS", f"{path.name} holds {type(state).__name__}, not tensors")
    return state


def _load_state(network: torch.nn.Module, state: Mapping[str, Any], name: str) -> None:
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        own = network.state_dict()
        missing, foreign = len(own.keys() - state.keys()), len(state.keys() - own.keys())
        raise BundleError(
            "E_WEIGHTS",
            f"{name} does not fit the network: {missing} tensors are missing, {foreign} are foreign"
            + ("" if missing or foreign else ", shapes differ"),
        ) from error
