"""PyTorch's functions by name, and the groups of names that mean the same.

The rule tables of `LibraGrad`, of relevance propagation and of the captures are made of
these groups, so that a new spelling of a function is added once, here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import resolve_name

Names = tuple[str, ...]
Functions = tuple[Callable[..., Any], ...]
Function = Callable[..., Tensor]
"""One of PyTorch's functions, as a rule gets it."""

# Arithmetic ---------------------------------------------------------------------------

SUMS: Names = ("add",)
DIFFERENCES: Names = ("sub", "subtract")
REVERSED_DIFFERENCES: Names = ("rsub", "__rsub__")
PRODUCTS: Names = ("mul", "multiply")
QUOTIENTS: Names = ("div", "divide", "true_divide")
REVERSED_QUOTIENTS: Names = ("__rdiv__", "__rtruediv__")
SUMS_WITH_PRODUCTS: Names = ("addcmul", "addcdiv")
SQUARES: Names = ("square",)
POWERS: Names = ("pow", "float_power", "__pow__")
RECIPROCALS: Names = ("reciprocal", "rsqrt")
MEANS: Names = ("mean", "nanmean")
TOTALS: Names = ("sum", "nansum")
MAXIMA: Names = ("max", "min", "amax", "amin", "logsumexp")
DEVIATIONS: Names = ("var", "std", "var_mean", "std_mean")
VECTOR_NORMS: Names = ("norm", "vector_norm")

# Linear maps --------------------------------------------------------------------------

MATRIX_PRODUCTS: Names = ("matmul", "__matmul__", "bmm", "mm", "mv", "dot")
SUMS_WITH_MATRIX_PRODUCTS: Names = ("addmm", "addmv", "baddbmm")
CONVOLUTIONS: Names = (
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
AVERAGES_OF_NEIGHBOURS: Names = (
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "adaptive_avg_pool3d", "fold", "cumsum", "grid_sample"),
    *("sum_to_size", "trapezoid", "trapz", "kron", "upsample_bilinear"),
)

# Elementwise functions, softmax and norms ---------------------------------------------

SOFTMAXES: Names = ("softmax",)
LOG_SOFTMAXES: Names = ("log_softmax",)
EXPONENTIALS: Names = ("exp",)
EXPONENTIALS_OF_TWO: Names = ("exp2",)
GATED_ACTIVATIONS: Names = ("gelu", "silu", "hardswish", "mish")
"""x g(x), with g a gate."""
OTHER_ACTIVATIONS_ZERO_AT_ZERO: Names = (
    *("elu", "selu", "celu", "relu6", "hardtanh", "softsign", "tanhshrink"),
)
SIGMOIDS: Names = ("sigmoid", "expit")
TANHS: Names = ("tanh",)
GATES: Names = (*SIGMOIDS, *TANHS, "erf", "hardsigmoid")
"""The last function in the g(x) of an activation that is written out."""
RECTIFIERS: Names = ("relu", "relu6", "softplus")
NORMS: Names = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm")
DROPOUTS: Names = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
    *("feature_dropout", "feature_alpha_dropout"),
)
ELEMENTWISE: Names = (
    *GATED_ACTIVATIONS,
    *OTHER_ACTIVATIONS_ZERO_AT_ZERO,
    *GATES,
    *RECTIFIERS,
    *("leaky_relu", "rrelu", "prelu", "logsigmoid", "log_sigmoid", "softshrink"),
    *("hardshrink", "threshold", "logit", "erfc"),
    *SOFTMAXES,
    *LOG_SOFTMAXES,
    "softmin",
    *EXPONENTIALS,
    *EXPONENTIALS_OF_TWO,
    *("expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "sinh"),
    *("cosh", "arctan", "atan", "asinh", "neg", "negative", "__neg__", "positive"),
    *("round", "floor", "ceil", "trunc", "sign", "clamp", "clip", "clamp_min"),
    *("clamp_max", "nan_to_num", "normalize"),
    *NORMS,
    *DROPOUTS,
)
"""Functions of one tensor that keep its shape."""

# Functions that move entries ----------------------------------------------------------

CASTS_AND_COPIES: Names = ("to", "type_as", "float", "contiguous", "clone")
CONCATENATIONS: Names = ("cat", "concat", "concatenate")
MOVES: Names = (
    *CASTS_AND_COPIES,
    *CONCATENATIONS,
    *("view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "ravel"),
    *("transpose", "transpose_", "permute", "t", "swapaxes", "swapdims", "movedim"),
    *("moveaxis", "adjoint", "squeeze", "squeeze_", "unsqueeze", "unsqueeze_"),
    *("stack", "hstack", "vstack", "dstack", "row_stack", "column_stack"),
    *("block_diag", "chunk", "split", "split_with_sizes", "hsplit", "tensor_split"),
    *("vsplit", "dsplit", "unbind", "unsafe_chunk", "unsafe_split", "select"),
    *("narrow", "index_select", "gather", "take", "take_along_dim", "masked_select"),
    *("masked_fill", "masked_fill_", "where", "expand", "expand_as", "broadcast_to"),
    *("broadcast_tensors", "repeat", "repeat_interleave", "tile", "roll", "flip"),
    *("fliplr", "flipud", "rot90", "diagonal", "diag", "diag_embed", "tril", "triu"),
    *("tril_", "triu_", "as_strided", "unfold", "im2col", "pad", "constant_pad_nd"),
    *("type", "double", "half", "bfloat16", "cpu", "cuda", "requires_grad_", "alias"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
    *("atleast_1d", "atleast_2d", "atleast_3d", "meshgrid", "cartesian_prod"),
    *("index_copy", "index_copy_", "index_put", "index_put_", "scatter", "scatter_"),
    *("masked_scatter", "masked_scatter_", "select_scatter", "slice_scatter"),
    *("diagonal_scatter", "copy_", "__getitem__", "__setitem__", "sort", "msort"),
    *("topk", "kthvalue", "median", "nanmedian", "mode", "maximum", "minimum", "fmax"),
    *("fmin", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d"),
    *("adaptive_max_pool2d", "adaptive_max_pool3d", "cummax", "cummin"),
    *("view_as_complex", "view_as_real", "real", "imag", "complex", "resolve_conj"),
    *("resolve_neg", "pin_memory", "as_subclass", "detach", "slice_copy", "identity"),
)
"""Functions that move, repeat or drop entries and compute nothing."""
SCATTERED_SUMS: Names = (
    *("index_add", "index_add_", "scatter_add", "scatter_add_", "put", "put_"),
)

_PLACES = (torch, Tensor, F, torch.special, torch.linalg, torch._C._nn)


def in_place(names: Names) -> Names:
    """Name the in-place versions of functions: "add_" of "add"."""
    return tuple(f"{name}_" for name in names)


def functions_named(*names: str) -> Functions:
    """Collect the functions of these names, as they arrive at a function mode.

    Args:
        *names (str): Such as "add", which is `torch.add` and `torch.Tensor.add`.

    Returns:
        *tuple*: Each function once; names that this PyTorch does not have are skipped.
    """
    found: dict[Callable[..., Any], None] = {}
    for name in names:
        for place in _PLACES:
            function = getattr(place, name, None)
            if callable(function):
                found[function] = None
    return tuple(found)


def plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Find the public function that an operator of `torch.ops.aten` computes.

    Args:
        function (callable): Any function.

    Returns:
        *callable*: The public one, or the function itself.
    """
    if type(function).__module__ != "torch._ops":
        return function
    schema = getattr(function, "_schema", None)  # of one overload
    name = getattr(function, "_qualified_op_name", None)  # of all of them
    name = str(getattr(schema, "name", name))
    if not name.startswith("aten::"):
        return function
    found = functions_named(name.removeprefix("aten::"))
    return found[0] if found else function


def function_name(function: Callable[..., Any]) -> str:
    """Name a function as its callers write it."""
    name = resolve_name(function) if callable(function) else None
    return str(name or getattr(function, "__qualname__", None) or function)
