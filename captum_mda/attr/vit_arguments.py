"""Arguments that all methods for Vision Transformers take.

Their descriptions are shared by way of `captum_mda._docstrings.documented`.

Args:
    model (nn.Module or ViTAdapter): A stock model of timm, torchvision, transformers or
        open_clip, a model around one (`captum_mda.vit.resolve` lists them), or an
        adapter.
    score (str or callable, optional): The function of the outputs that the target is
        chosen from: "identity" for logits, "softmax", "sigmoid", or a callable. Not
        used where the target is a callable. Default: "identity"
    inputs (Tensor): (B, C, H, W), as the model takes them. For inputs in a tuple of
        one, as Captum's metrics pass them, the map is returned in a tuple, too.
    target (int, tuple, Tensor, list, callable, optional): What is explained. Captum's
        forms of classes, for all examples or per example; a floating-point tensor (E,)
        or (B, E), whose cosine similarity with the model's embedding is explained
        (labels, which are in [0, 1] or whole, are refused: pass class indices as
        integers); or a callable that maps outputs (B, ...) to one score per example
        (B,). None where the model returns one value per example. Default: None
    additional_forward_args (any, optional): Passed to the model after the inputs;
        tensors whose first dimension is the batch's hold one entry per example.
        Default: None
    interpolate_mode (str, optional): How the grid of patches is resized to the inputs:
        "nearest", "nearest-exact", "bilinear" or "bicubic". Each patch is painted where
        the model reads it; pixels that no patch reads get the value at the map's edge.
        None: the grid itself is returned. Default: "bilinear"
    internal_batch_size (int, optional): The largest number of images, or of shortened
        sequences, in one forward. None: as many as fit, halved when memory runs out.
        Default: None
    show_progress (bool, optional): Show a progress bar of the forwards. Default: False
    generator (torch.Generator, optional): Draws the method's random numbers, the same
        ones for each image. None: a generator with a fixed seed, so that every call
        draws the same numbers. Default: None
"""
