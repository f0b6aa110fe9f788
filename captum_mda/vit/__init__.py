"""What a Vision Transformer exposes, for stock models of four libraries."""

from captum_mda.vit.adapter import Pooling, ViTAdapter
from captum_mda.vit.biases import BiasCapture
from captum_mda.vit.block_calls import ObservationError
from captum_mda.vit.capture import AttentionCapture, AttentionRecord
from captum_mda.vit.check import check_adapter
from captum_mda.vit.execution import eager_execution, gradients_enabled
from captum_mda.vit.function_mode import ConstantParameters
from captum_mda.vit.layout import paint, patch_numbers, PatchLayout
from captum_mda.vit.observation import Observation, observe
from captum_mda.vit.resolve import find_adapter, resolve
from captum_mda.vit.stream import CannotDropError, TokenStream

__all__ = [
    "AttentionCapture",
    "AttentionRecord",
    "BiasCapture",
    "CannotDropError",
    "ConstantParameters",
    "Observation",
    "ObservationError",
    "PatchLayout",
    "Pooling",
    "TokenStream",
    "ViTAdapter",
    "check_adapter",
    "eager_execution",
    "find_adapter",
    "gradients_enabled",
    "observe",
    "paint",
    "patch_numbers",
    "resolve",
]
