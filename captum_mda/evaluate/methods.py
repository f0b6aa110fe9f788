"""The one table of attribution methods: what each is called, costs and needs.

Constructors are imported when a method is built, so that the table can be read without
PyTorch. `captum_mda.evaluate.maps` builds methods and computes their maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, Literal

from captum_mda._spelling import did_you_mean, require_choice

Cost = Literal["seconds", "minutes"]
Needs = Literal["vit", "gradient"]
Interface = Literal["vit", "features", "windows", "gradients", "case"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """An attribution method: its names, how it is built, and what it needs.

    Args:
        name (str): What ``captum-mda compare --methods`` takes, in lower case.
        title (str): What stands above its map in a figure.
        constructor (str or callable): The class, or where it is imported from, such as
            ``"captum_mda.attr.LeGrad"``. It is called with the model (under the
            interface "case" with the `Classifier`) and ``options``.
        cost (str): What a map costs on a laptop: "seconds", up to some 200 forwards, or
            "minutes", a thousand forwards and more.
        needs (str, optional): What it needs of the model: "vit", a Vision Transformer
            that `captum_mda.vit.resolve` knows; "gradient", outputs that can be
            differentiated. None: any forward function. Default: "vit"
        libra (bool, optional): Whether it runs within `captum_mda.LibraGrad`.
            Default: False
        options (mapping, optional): Further arguments of the constructor. Default: {}
        interface (str, optional): How a map is computed. "vit": ``attribute(images,
            target)``, as of `captum_mda.attr.ViTAttribution`. As Captum's methods with
            baselines: "features", of each patch as one feature; "windows", of a
            sliding window of one patch; "gradients", of each pixel. "case": the built
            method is called with the `Case` itself. Default: "vit"
        attribute_options (mapping, optional): Further arguments of ``attribute``, for
            "features". Default: {}

    Example::

        >>> METHODS["legrad"].title, METHODS["legrad"].cost
        ('LeGrad', 'seconds')
    """

    name: str
    title: str
    constructor: str | Callable[..., Any]
    cost: Cost
    needs: Needs | None = "vit"
    libra: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    interface: Interface = "vit"
    attribute_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the names and words."""
        if not self.name or self.name != self.name.lower() or "," in self.name:
            raise ValueError(
                f"name: got {self.name!r}, takes a name in lower case without commas, "
                'such as "legrad"'
            )
        require_choice("cost", self.cost, get_args(Cost))
        require_choice("interface", self.interface, get_args(Interface))
        if self.needs is not None:
            require_choice("needs", self.needs, get_args(Needs))


def _method(name: str, title: str, constructor: str, **more: Any) -> Method:
    return Method(
        name=name, title=title, constructor=constructor, **{"cost": "seconds", **more}
    )


_ATTR, _CAPTUM = "captum_mda.attr", "captum.attr"

METHODS: dict[str, Method] = {
    each.name: each
    for each in (
        _method("raw-attention", "Raw attention", f"{_ATTR}.RawAttention"),
        _method("rollout", "Rollout", f"{_ATTR}.AttentionRollout"),
        _method("grad-cam", "Attention Grad-CAM", f"{_ATTR}.AttentionGradCam"),
        _method(
            "attention-ig", "Attention IG", f"{_ATTR}.AttentionIntegratedGradients"
        ),
        _method("t-attn", "T-Attn", f"{_ATTR}.TransitionAttention"),
        _method("t-attr", "T-Attr", f"{_ATTR}.TransformerAttribution"),
        _method("bi-attn", "Bi-Attn", f"{_ATTR}.BidirectionalAttention"),
        _method(
            "bi-attn-token",
            "Bi-Attn, token-wise",
            f"{_ATTR}.BidirectionalAttention",
            options={"mode": "token"},
        ),
        _method("legrad", "LeGrad", f"{_ATTR}.LeGrad"),
        _method(
            "libra-fullgrad", "Libra FullGrad+", f"{_ATTR}.FullGradPlus", libra=True
        ),
        _method(
            "libra-ixg",
            "Libra input x gradient",
            f"{_ATTR}.TokenInputXGradient",
            libra=True,
        ),
        _method("caap", "CAAP", f"{_ATTR}.CausalActivationPatching"),
        _method("vit-cx", "ViT-CX", f"{_ATTR}.VitCx"),
        _method(
            "ig",
            "Integrated gradients",
            f"{_CAPTUM}.IntegratedGradients",
            needs="gradient",
            interface="gradients",
        ),
        _method(
            "occlusion",
            "Occlusion",
            f"{_CAPTUM}.Occlusion",
            needs=None,
            interface="windows",
        ),
        _method("tis", "TIS", f"{_ATTR}.TransformerInputSampling", cost="minutes"),
        # One forward for each patch and permutation.
        _method(
            "shapley",
            "Shapley sampling",
            f"{_CAPTUM}.ShapleyValueSampling",
            cost="minutes",
            needs=None,
            interface="features",
            attribute_options={"n_samples": 5},
        ),
        _method(
            "kernel-shap",
            "Kernel SHAP",
            f"{_CAPTUM}.KernelShap",
            cost="minutes",
            needs=None,
            interface="features",
            attribute_options={"n_samples": 1000},
        ),
        _method(
            "lime",
            "LIME",
            f"{_CAPTUM}.Lime",
            cost="minutes",
            needs=None,
            interface="features",
            attribute_options={"n_samples": 1000},
        ),
        _method(
            "mda",
            "MDA",
            "captum_mda.evaluate.maps.MdaMap",
            cost="minutes",
            needs=None,
            interface="case",
        ),
    )
}
"""Every method by its name, in the order of tables and figures."""

MDA = "mda"
"""The name of `captum_mda.MetricDrivenAttribution`, whose search can be chosen."""

DEFAULT_METHODS = ("raw-attention", "rollout", "bi-attn", "legrad", "libra-fullgrad")
"""What ``captum-mda compare`` compares unless it is told otherwise."""


def list_methods(cost: Cost | None = None) -> list[str]:
    """List the names of methods, in the order of the table.

    Args:
        cost (str, optional): "seconds" or "minutes". None: either. Default: None

    Example::

        >>> list_methods("minutes")
        ['tis', 'shapley', 'kernel-shap', 'lime', 'mda']
    """
    return [each.name for each in METHODS.values() if cost in (None, each.cost)]


def get_method(name: str) -> Method:
    """Look a method up by its name.

    Raises:
        ValueError: There is none of that name; the message has the nearest one.

    Example::

        >>> get_method("le-grad")
        Traceback (most recent call last):
        ValueError: method: got 'le-grad', takes one of ...; did you mean 'legrad'?
    """
    if name not in METHODS:
        hint = did_you_mean(name, METHODS) if isinstance(name, str) else ""
        raise ValueError(
            f"method: got {name!r}, takes one of {', '.join(METHODS)}{hint}"
        )
    return METHODS[name]


def register_method(method: Method) -> Method:
    """Add a method to the table, and so to the command line and to the benchmarks.

    Args:
        method (Method): Of a name that is not taken.

    Returns:
        *Method*: the method.

    Raises:
        TypeError: It is no `Method`.
        ValueError: There is one of that name, or of that title.

    Example::

        >>> from captum_mda import LeGrad
        >>> toy = Method(name="toy", title="Toy", constructor=LeGrad, cost="seconds")
        >>> register_method(toy) is METHODS.pop("toy")
        True
    """
    if not isinstance(method, Method):
        raise TypeError(f"method: got {type(method).__name__}, takes a Method")
    if method.name in METHODS:
        raise ValueError(f"method: there is one of the name {method.name!r} already")
    if method.title in {each.title for each in METHODS.values()}:
        raise ValueError(f"method: there is one of the title {method.title!r} already")
    METHODS[method.name] = method
    return method
