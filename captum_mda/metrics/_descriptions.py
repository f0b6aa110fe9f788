"""Descriptions of the arguments that metrics share, inserted into their docstrings."""

from __future__ import annotations

OF_CURVES = {
    "forward_func": (
        "(callable): Returns logits (B, classes), or one value for each example."
    ),
    "inputs": (
        "(Tensor or tuple[Tensor, ...]): The explained inputs, examples along dimension "
        "0."
    ),
    "attributions": (
        "(Tensor, tuple of those, or MDAExplanation): Attributions, not all the same, "
        "as methods return them: maps that broadcast to the inputs, or (B, H, W) of "
        "images; a grid of patches, (B, 1, h, w) or (B, h, w), which is painted onto "
        "the patches of a feature mask that is a raster of h x w, else onto equal cells "
        "of the inputs; or (B, N), one number for each feature of the mask. Of forms "
        "that a shape fits, the first is taken."
    ),
    "baselines": (
        "(Tensor, number, tuple of those, optional): Replace absent features; the "
        "papers blur for insertion and take 0 for deletion. None: 0. Default: None"
    ),
    "insertion_baselines": (
        "(Tensor, number, tuple of those, optional): Replace features that are not yet "
        "inserted; the papers blur the inputs. None: 0. Default: None"
    ),
    "deletion_baselines": (
        "(Tensor, number, tuple of those, optional): Replace deleted features. None: 0. "
        "Default: None"
    ),
    "feature_mask": (
        "(Tensor or tuple[Tensor, ...], optional): Integers that broadcast to the "
        "inputs, such as ``patch_feature_mask(inputs, 16)``. Steps then move whole "
        "features, ranked by the sum of their attributions. None: steps move single "
        "positions (pixels), their channels together. Default: None"
    ),
    "additional_forward_args": (
        "(any, optional): Passed to ``forward_func`` behind the inputs. Default: None"
    ),
    "target": (
        "(int, tuple, Tensor, list, callable, optional): The class, in Captum's forms; "
        "or a callable that maps outputs (R, ...) to one score for each row, (R,), in "
        "place of ``score``: rows are perturbed inputs of any examples, in any number. "
        "Default: None"
    ),
    "n_steps": (
        "(int, optional): Number of steps between both ends, each of as equal a number "
        "of features as can be; at most one step for each feature. Default: 224"
    ),
    "max_examples_per_batch": (
        "(int, optional): The most inputs in one forward. None: as many as fit. "
        "Default: None"
    ),
    "show_progress": (
        "(bool, optional): Show a bar of the inputs scored. Default: False"
    ),
    "mode": '(str, optional): "insertion" or "deletion". Default: "insertion"',
    "convention": (
        '(str, optional): "mas" or "rise", see '
        '`captum_mda.metrics.insertion_deletion`. Default: "mas"'
    ),
    "score": (
        '(str or callable, optional): "softmax", "sigmoid", "identity", or a callable '
        "from outputs to scores; one value for each example is its own score under "
        '"softmax". Default: "softmax"'
    ),
    "on_degenerate": (
        "(str, optional): What to do about examples that cannot be scored: a map that "
        'is constant, or under "mas" an input that scores no higher than its baseline. '
        '"raise" refuses the batch; "nan" warns, and their scores are NaN, with the '
        'reason in the curve\'s status. Default: "raise"'
    ),
    "least_first": (
        "(bool, optional): Whether to sweep the reversed ranking, too, for the "
        "symmetric relevance gain. Default: False"
    ),
}
"""Of metrics of response curves."""

OF_HITS = OF_CURVES | {
    "forward_func": "(callable): Returns logits or probabilities (B, classes).",
    "baselines": (
        "(Tensor, number, tuple of those, optional): Replace masked features. The "
        "papers take black, which is ``-mean / std`` for inputs that are normalised. "
        "None: 0, the data's mean colour. Default: None"
    ),
    "feature_mask": (
        "(Tensor or tuple[Tensor, ...], optional): Integers that broadcast to the "
        "inputs; whole features are masked. None: single positions (pixels), their "
        "channels together. Default: None"
    ),
    "target": "(int, tuple, Tensor, list, optional): The label. Default: None",
    "on_degenerate": (
        '(str, optional): "raise" refuses a batch with a constant map; "nan" warns, '
        'and its values are NaN. Default: "raise"'
    ),
}
"""Of metrics that mask features and check the first class."""

OF_TOKENS = OF_HITS | {
    "model": (
        "(nn.Module or ViTAdapter): A Vision Transformer that `captum_mda.vit.resolve` "
        "knows, or an adapter."
    ),
    "inputs": "(Tensor): (B, C, H, W).",
    "attributions": (
        "(Tensor): (B, C or 1, H, W), (B, H, W), the patch grid (B, 1, h, w), or one "
        "number for each patch, (B, P)."
    ),
    "baselines": (
        "(Tensor, number, tuple of those, optional): Replace masked patches, where "
        "tokens cannot be dropped. None: 0. Default: None"
    ),
    "additional_forward_args": (
        "(any, optional): Passed to the model behind the inputs. Default: None"
    ),
    "target": "(int, tuple, Tensor, list, optional): The class. Default: None",
    "removal": (
        '(str, optional): "tokens" drops them, "mask" sets pixels to the baselines, '
        '"auto" masks only where attention has positions of its own, as in BEiT, that '
        'dropped tokens leave without a partner. Default: "auto"'
    ),
}
"""Of metrics that take patches away from a Vision Transformer."""
