"""Models of many kinds, each with the line that explains it.

The rows are code, which tests/vit/test_kinds.py runs as it stands here, with small
models and random weights. `models_table.py` writes them into docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.scoring import markdown
from captum_mda.evaluate.tables import Cell, Column

LINE = "LeGrad(model).attribute(images, target=1)"

PREAMBLE = """\
import torch
from torch import nn

from captum_mda import LeGrad, MetricDrivenAttribution
from captum_mda.vit import resolve

# Small models, so that all rows run in seconds; leave the sizes out for your own.
timm_size = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}
size = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 64,
    "patch_size": 16,
    "num_labels": 5,
}
images = torch.randn(2, 3, 64, 64)


class Normalize(nn.Module):
    def forward(self, images):  # from [0, 1] to what the model was trained on
        return (images - 0.5) / 0.25


class Classifier(nn.Module):  # a LightningModule looks the same
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images):
        return self.head(self.backbone(images))


class Select(nn.Module):
    def __init__(self, model, select):
        super().__init__()
        self.model, self.select = model, select

    def forward(self, images):
        return self.select(self.model(images))


class Sum(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images):
        return self.first(images) + self.second(images)
"""


@dataclass(frozen=True)
class Kind:
    """A row: what sort of model, how it is made, and what explains it.

    Args:
        name (str): What is special about it.
        library (str): Where it is from; a module that is imported.
        model (str): An expression for the model.
        line (str): An expression for the maps; knows ``model`` and ``images``.
        images (str): An expression for the inputs, where they are others.
    """

    name: str
    library: str
    model: str
    line: str = LINE
    images: str = ""


def _timm(name: str, stock: str, options: str = "") -> Kind:
    more = f", {options}" if options else ""
    return Kind(name, "timm", f'timm.create_model("{stock}", **timm_size{more})')


def _hf(name: str, cls: str, config: str, options: str = "") -> Kind:
    more = f", {options}" if options else ""
    model = f"transformers.{cls}(transformers.{config}(**size{more}))"
    return Kind(name, "transformers", model)


VIT = 'timm.create_model("vit_tiny_patch16_224", **timm_size)'
FEATURES = 'timm.create_model("vit_tiny_patch16_224", **timm_size, num_classes=0)'
TOKENS = (
    'timm.create_model("vit_tiny_patch16_224", **timm_size, num_classes=0, '
    'global_pool="")'
)
HF_VIT = "transformers.ViTForImageClassification(transformers.ViTConfig(**size))"
HF_BASE = "transformers.ViTModel(transformers.ViTConfig(**size))"
TORCHVISION = (
    "torchvision.models.VisionTransformer(image_size=64, patch_size=16, num_layers=2, "
    "num_heads=3, hidden_dim=48, mlp_dim=96)"
)
OPEN_CLIP = (
    "open_clip.transformer.VisionTransformer(image_size=64, patch_size=16, width=48, "
    "layers=2, heads=3, mlp_ratio=2.0, output_dim=16)"
)
LORA = (
    'peft.get_peft_model({}, peft.LoraConfig(target_modules=["qkv", "attn.proj"], '
    "init_lora_weights=False))"
)
GREY = "torch.randn(2, 1, 64, 64)"
WITH_TEXT = "LeGrad(model).attribute(images, target=torch.randn(16))"

STOCK = (
    _timm("ViT", "vit_tiny_patch16_224"),
    _timm("ViT that averages patches", "vit_tiny_patch16_224", 'global_pool="avg"'),
    replace(
        _timm("ViT of grey images", "vit_tiny_patch16_224", "in_chans=1"), images=GREY
    ),
    _timm("ViT with attention beside the MLP", "vit_base_patch16_xp_224"),
    _timm("DeiT, distilled", "deit_tiny_distilled_patch16_224"),
    _timm("DINOv2 with registers", "vit_small_patch14_reg4_dinov2", "patch_size=16"),
    _timm("DINOv3", "vit_small_patch16_dinov3", "num_classes=5"),
    _timm("SigLIP", "vit_base_patch16_siglip_224", "num_classes=5"),
    _timm("EVA-02", "eva02_tiny_patch14_224", "patch_size=16"),
    _timm("BEiT", "beit_base_patch16_224"),
    Kind("ViT", "torchvision", TORCHVISION),
    _hf("ViT", "ViTForImageClassification", "ViTConfig"),
    _hf("DeiT", "DeiTForImageClassificationWithTeacher", "DeiTConfig"),
    _hf("BEiT", "BeitForImageClassification", "BeitConfig"),
    _hf("Data2Vec", "Data2VecVisionForImageClassification", "Data2VecVisionConfig"),
    _hf("ViT-MSN", "ViTMSNForImageClassification", "ViTMSNConfig"),
    _hf("I-JEPA", "IJepaForImageClassification", "IJepaConfig"),
    _hf("DINOv2", "Dinov2ForImageClassification", "Dinov2Config"),
    _hf("DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig"),
    replace(
        _hf(
            "CLIP against a text",
            "CLIPVisionModelWithProjection",
            "CLIPVisionConfig",
            "projection_dim=16",
        ),
        line=WITH_TEXT,
    ),
    _hf("SigLIP", "SiglipVisionModel", "SiglipVisionConfig"),
    _hf("SigLIP 2", "Siglip2VisionModel", "Siglip2VisionConfig", "num_patches=16"),
    replace(
        _hf(
            "AST, spectrograms (B, time, frequency)",
            "ASTForAudioClassification",
            "ASTConfig",
            "max_length=64, num_mel_bins=32",
        ),
        images="torch.randn(2, 64, 32)",
    ),
    Kind("CLIP against a text", "open_clip", OPEN_CLIP, WITH_TEXT),
)

HEADS = (
    Kind(
        "no head: likeness to an embedding",
        "timm",
        FEATURES,
        "LeGrad(model).attribute(images, target=torch.randn(48))",
    ),
    Kind(
        "several labels at once",
        "timm",
        VIT,
        "LeGrad(model, score=torch.sigmoid).attribute(images, target=1)",
    ),
    Kind(
        "one number, a regression",
        "timm",
        VIT[:-1] + ", num_classes=1)",
        "LeGrad(model).attribute(images)",
    ),
    Kind(
        "a head of several layers on the features",
        "timm",
        f"Classifier({FEATURES}, nn.Sequential(nn.Linear(48, 9), nn.GELU(), "
        "nn.Linear(9, 5)))",
    ),
    Kind(
        "a head on the class token",
        "timm",
        f"Classifier(Select({TOKENS}, lambda t: t[:, 0]), nn.Linear(48, 5))",
    ),
    Kind(
        "a head on the mean of the patches",
        "timm",
        f"Classifier(Select({TOKENS}, lambda t: t[:, 1:].mean(1)), nn.Linear(48, 5))",
    ),
    Kind(
        "a head on the class token and the mean",
        "transformers",
        f"Classifier(Select({HF_BASE}, lambda out: torch.cat([out.pooler_output, "
        "out.last_hidden_state[:, 1:].mean(1)], 1)), nn.Linear(96, 5))",
    ),
    Kind(
        "features normed, compared with texts",
        "open_clip",
        f"Select({OPEN_CLIP}, lambda f: nn.functional.normalize(f, dim=1) @ "
        "torch.ones(16, 5))",
    ),
)

WRAPPERS = (
    Kind("images normalised inside", "timm", f"nn.Sequential(Normalize(), {VIT})"),
    Kind(
        "probabilities",
        "torchvision",
        f"nn.Sequential(Normalize(), {TORCHVISION}, nn.Softmax(dim=1))",
    ),
    Kind(
        "resized inside",
        "timm",
        f"nn.Sequential(nn.Upsample((64, 64), mode='bilinear'), {VIT})",
        images="torch.randn(2, 3, 96, 80)",
    ),
    Kind(
        "grey images made RGB inside",
        "timm",
        f"nn.Sequential(nn.Conv2d(1, 3, 1), {VIT})",
        images=GREY,
    ),
    Kind(
        "returns logits of a transformers model",
        "transformers",
        f"Select({HF_VIT}, lambda output: output.logits)",
    ),
    Kind(
        "returns a dict",
        "timm",
        f'Select({VIT}, lambda logits: {{"logits": logits, "loss": None}})',
    ),
    Kind("LoRA", "peft", LORA.format(VIT)),
    Kind(
        "LoRA in a wrapper",
        "peft",
        f"nn.Sequential(Normalize(), {LORA.format(VIT)})",
    ),
    Kind("compiled", "timm", f"torch.compile(nn.Sequential(Normalize(), {VIT}))"),
    Kind(
        "a transformers model round timm",
        "transformers",
        "transformers.TimmWrapperForImageClassification(transformers."
        'TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=timm_size))',
    ),
    Kind(
        "runs two transformers: say which",
        "timm",
        f"Sum({VIT}, {VIT})",
        "LeGrad(resolve(model, adapter=model.first)).attribute(images, target=1)",
    ),
    Kind(
        "bfloat16",
        "timm",
        f"nn.Sequential(Normalize(), {VIT}).bfloat16()",
        images="images.bfloat16()",
    ),
)

GROUPS = {
    "Models of four libraries": STOCK,
    "Heads and scores": HEADS,
    "Models round them": WRAPPERS,
}
KINDS = tuple(kind for kinds in GROUPS.values() for kind in kinds)


def section() -> str:
    """Write the section of docs/models.md."""
    columns = [Column(name=name) for name in ("kind", "model", "explained by")]
    tables = []
    for title, kinds in GROUPS.items():
        tables += ["", f"### {title}", "", markdown(columns, map(_row, kinds))]
    return "\n".join(
        [INTRODUCTION.format(n=len(KINDS)), f"```python\n{PREAMBLE}```", *tables, ""]
    )


def _row(kind: Kind) -> dict[str, str | Cell]:
    # A cell of two pieces of code, with words between.
    given = f"{kind.line}` for `images = {kind.images}" if kind.images else kind.line
    return {
        "kind": kind.name,
        "model": Cell(f"model = {kind.model}", code=True),
        "explained by": Cell(given, code=True),
    }


INTRODUCTION = """\
## {n} kinds of models, and the line that explains each

Call `model.eval()` first. Other methods take LeGrad's place; the score is always what
the model itself returns. [adapters.md](adapters.md) says how a model round a known one
is looked into.
"""
