"""Where patches lie: each is painted on the pixels that the model reads it from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import nn, Tensor
from torch.nn import functional as F

from captum_mda import LeGrad, VitCx
from captum_mda.metrics import token_deletion
from captum_mda.vit import find_adapter, paint, PatchLayout, resolve
from captum_mda.vit.layout import conv_grid, conv_layout, patch_means, patch_numbers

MODES = ["nearest", "nearest-exact", "bilinear", "bicubic"]


def timm_padding(**options: Any) -> nn.Module:
    import timm.models

    return timm.models.VisionTransformer(
        img_size=64,
        patch_size=16,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=5,
        dynamic_img_size=True,
        **({"dynamic_img_pad": True} | options),
    ).eval()


def dinov2() -> nn.Module:
    import transformers

    config = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        num_labels=5,
    )
    return transformers.Dinov2ForImageClassification(config).eval()


def beginnings(line: Tensor) -> list[int]:
    """Where a line of a map takes a new value."""
    return [0, *(line.diff().nonzero().flatten() + 1).tolist()]


@pytest.mark.parametrize(
    ("build", "size", "rows", "columns"),
    [
        (timm_padding, (90, 70), range(0, 90, 16), range(0, 70, 16)),
        (timm_padding, (64, 65), range(0, 64, 16), range(0, 65, 16)),
        (timm_padding, (33, 96), range(0, 33, 16), range(0, 96, 16)),
        # Pixels beyond the last whole patch are read by none: they go on as its edge.
        (dinov2, (64, 69), range(0, 56, 14), range(0, 56, 14)),
        (dinov2, (83, 57), range(0, 70, 14), range(0, 56, 14)),
    ],
)
def test_nearest_maps_change_where_patches_begin(
    build: Any, size: tuple[int, int], rows: range, columns: range
) -> None:
    torch.manual_seed(0)
    model = build()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.15)
    x = torch.randn(1, 3, *size)
    method = LeGrad(model)
    near = method.attribute(x, target=1, interpolate_mode="nearest")[0, 0]
    grid = method.attribute(x, target=1, interpolate_mode=None)[0, 0]
    assert beginnings(near[0]) == list(columns)
    assert beginnings(near[:, 0]) == list(rows)
    assert torch.equal(near[list(rows)][:, list(columns)], grid)
    # Interpolated over what the patches cover, then cut off or continued.
    covered = (len(rows) * rows.step, len(columns) * rows.step)
    missing = (max(0, size[0] - covered[0]), max(0, size[1] - covered[1]))
    for mode in ("bilinear", "bicubic"):
        wanted = F.interpolate(grid[None, None], covered, mode=mode)
        wanted = F.pad(wanted, (0, missing[1], 0, missing[0]), mode="replicate")
        found = method.attribute(x, target=1, interpolate_mode=mode)
        torch.testing.assert_close(found, wanted[..., : size[0], : size[1]])


def test_a_hybrid_reads_where_the_strides_of_its_network_put_a_patch() -> None:
    """Of 32 pixels each; a padded third column begins at the 64th."""
    import timm.models

    sizes = {"img_size": 64, "embed_dim": 24, "depth": 1, "num_heads": 3}
    model = timm.models.create_model(
        "vit_tiny_r_s16_p8_224", **sizes, dynamic_img_size=True, dynamic_img_pad=True
    ).eval()
    adapter, x = find_adapter(model), torch.randn(1, 3, 64, 90)
    grid = torch.tensor([[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]])
    assert adapter.patch_grid(x) == (2, 3)
    assert beginnings(adapter.paint(grid, x, "nearest")[0, 0, 0]) == [0, 32, 64]
    assert torch.equal(
        adapter.paint(grid[..., :2], x[..., :64], "bilinear"),
        F.interpolate(grid[..., :2], (64, 64), mode="bilinear"),
    )


@pytest.mark.parametrize(
    ("patch_grid", "size", "columns"),
    [
        (lambda x: (-(-x.shape[2] // 16), -(-x.shape[3] // 16)), (90, 70), 16),
        (lambda x: (-(-x.shape[2] // 16), -(-x.shape[3] // 16)), (64, 80), 16),
        (lambda x: (x.shape[2] // 16, x.shape[3] // 16), (64, 69), 16),
        # It resizes: as many patches whatever the size.
        (lambda x: (4, 4), (96, 96), 24),
        (lambda x: (4, 4), (64, 72), 18),
    ],
)
def test_adapters_that_say_how_many_patches_there_are(
    patch_grid: Any, size: tuple[int, int], columns: int
) -> None:
    adapter = find_adapter(timm_padding())
    adapter = replace(adapter, patch_grid=patch_grid, patch_layout=None)
    x = torch.zeros(1, 3, *size)
    n_rows, n_columns = patch_grid(x)
    grid = torch.arange(float(n_rows * n_columns)).reshape(1, 1, n_rows, n_columns)
    near = adapter.paint(grid, x, "nearest")[0, 0, 0]
    assert beginnings(near) == list(range(0, size[1], columns))[:n_columns]


@strategies.composite
def convolutions(draw: Any) -> tuple[nn.Conv2d, tuple[int, int]]:
    """Any convolution that makes patches, and an image that it fits."""
    integers = strategies.integers
    kernel = [draw(integers(1, 7)) for _ in range(2)]
    stride = [draw(integers(1, 7)) for _ in range(2)]
    padding = [draw(integers(0, side // 2)) for side in kernel]
    dilation = draw(integers(1, 2))
    reach = [dilation * (side - 1) + 1 for side in kernel]
    size = (draw(integers(reach[0], 30)), draw(integers(reach[1], 30)))
    convolution = nn.Conv2d(
        1, 1, kernel, stride, padding, dilation, bias=False, dtype=torch.float64
    )
    nn.init.ones_(convolution.weight)
    return convolution, size


def columns_read(convolution: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """Which columns each column of patches reads, by gradients: bool (w, W)."""
    image = torch.zeros(1, 1, *size, dtype=torch.float64, requires_grad=True)
    patches = convolution(image).sum(dim=(0, 1, 2))  # (w,)
    read = [
        torch.autograd.grad(patch, image, retain_graph=True)[0][0, 0].any(dim=0)
        for patch in patches
    ]
    return torch.stack(read)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_patches_lie_where_a_convolution_reads(
    drawn: tuple[nn.Conv2d, tuple[int, int]],
) -> None:
    convolution, size = drawn
    image = torch.zeros(1, 1, *size, dtype=torch.float64)
    grid, layout = conv_grid(convolution, image), conv_layout(convolution, image)
    assert grid == tuple(convolution(image).shape[-2:])
    read = columns_read(convolution, size)
    columns = layout.nearest(grid, size)[1]
    sides = layout.size or layout.stride
    pixels = torch.arange(size[1]) + 0.5
    centres = layout.offset[1] + sides[1] / 2 + layout.stride[1] * torch.arange(grid[1])
    for patch, taps in enumerate(read):
        # All that it reads is inside what the layout says, border to border.
        places = taps.nonzero().flatten() + 0.5
        assert bool(((places - centres[patch]).abs() < sides[1] / 2).all())
    # The literal rule: the nearest centre, the lower one of two.
    distances = (pixels[:, None] - centres).abs()
    assert columns.tolist() == [int(row.argmin()) for row in distances]
    # Without gaps or dilation, a pixel is painted by one that reads it, if any does.
    if convolution.dilation[1] == 1 and layout.stride[1] <= sides[1]:
        some = read.any(dim=0)
        assert bool(read[columns, torch.arange(size[1])][some].all())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("grid", "patch"), [((3, 5), 4), ((4, 4), 7), ((1, 2), 16)])
def test_exact_covers_are_interpolated_as_ever(
    mode: str, grid: tuple[int, int], patch: int
) -> None:
    values = torch.randn(2, 1, *grid, dtype=torch.float64)
    size = (grid[0] * patch, grid[1] * patch)
    align = None if mode.startswith("nearest") else False
    wanted = F.interpolate(values, size, mode=mode, align_corners=align)
    layout = PatchLayout((patch, patch))
    assert layout.tiles(grid, size)
    assert torch.equal(paint(values, size, mode, layout), wanted)
    assert torch.equal(paint(values, size, mode), wanted)
    # Cut off, and continued: the same arithmetic where patches do not tile the image.
    cut, grown = (size[0] - 1, size[1] - 3), (size[0] + 2, size[1] + 3)
    torch.testing.assert_close(
        paint(values, cut, mode, layout), wanted[..., : cut[0], : cut[1]]
    )
    continued = paint(values, grown, mode, layout)
    torch.testing.assert_close(continued, F.pad(wanted, (0, 3, 0, 2), "replicate"))


@pytest.mark.parametrize("mode", MODES)
def test_padding_in_front(mode: str) -> None:
    """A model that pads two pixels on each side: its patches begin outside."""
    values = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    layout = PatchLayout((4, 4), offset=(-2, -2))
    whole = paint(values, (12, 12), mode)
    torch.testing.assert_close(
        paint(values, (8, 8), mode, layout), whole[..., 2:10, 2:10]
    )


def test_overlapping_patches() -> None:
    """Centres at 2, 4, 6 pixels: kernel 4, stride 2; by hand."""
    layout = PatchLayout((2, 2), (4, 4))
    line = torch.tensor([[[[0.0, 10.0, 30.0]]]])
    near = paint(line, (1, 8), "nearest", layout)
    assert near.flatten().tolist() == [0, 0, 0, 10, 10, 30, 30, 30]
    smooth = paint(line, (1, 8), "bilinear", layout)
    assert smooth.flatten().tolist() == [0, 0, 2.5, 7.5, 15, 25, 30, 30]


@pytest.mark.parametrize(
    ("layout", "grid", "size"),
    [
        (PatchLayout((4, 4)), (3, 4), (10, 13)),
        (PatchLayout((4, 4)), (2, 3), (11, 14)),
        (PatchLayout((2, 3), (5, 4), (-2, 0)), (4, 4), (8, 14)),
    ],
)
def test_means_over_patches(
    layout: PatchLayout, grid: tuple[int, int], size: tuple[int, int]
) -> None:
    """Nearest maps give their values back; unread pixels do not count."""
    values = torch.randn(2, 1, *grid, dtype=torch.float64)
    painted = paint(values, size, "nearest", layout)
    torch.testing.assert_close(patch_means(painted, grid, layout), values)
    numbers = patch_numbers(grid, size, layout)
    assert torch.equal(painted[0, 0], values[0].flatten()[numbers[0, 0]])
    sides = layout.size or layout.stride
    ends = [
        int(layout.offset[axis] + (grid[axis] - 1) * layout.stride[axis] + sides[axis])
        for axis in (0, 1)
    ]
    painted[..., ends[0] :, :] = 1e6
    painted[..., :, ends[1] :] = 1e6
    torch.testing.assert_close(patch_means(painted, grid, layout), values)


def test_methods_and_metrics_that_read_patches_off_pixels() -> None:
    """ViT-CX's masks and means, and the patches that deletion ranks and masks."""
    torch.manual_seed(0)
    model = timm_padding()
    x = torch.randn(1, 3, 50, 40)
    cx = VitCx(model)
    near = cx.attribute(x, target=1, interpolate_mode="nearest")[0, 0]
    assert set(beginnings(near[0])) <= {0, 16, 32}
    assert cx.attribute(x, target=1, interpolate_mode=None).shape == (1, 1, 4, 3)
    grid = torch.randn(1, 1, 4, 3)
    painted = find_adapter(model).paint(grid, x, "nearest")
    for removal in ("tokens", "mask"):
        by_grid, by_pixels = (
            token_deletion(model, x, maps, target=1, removal=removal)
            for maps in (grid, painted)
        )
        assert torch.equal(by_grid.probabilities, by_pixels.probabilities)
    # Without its first patch: the image whose first 16 x 16 pixels are the baseline.
    first = torch.zeros(1, 1, 4, 3)
    first[..., 0, 0] = 1
    masked = x.clone()
    masked[..., :16, :16] = 0.5
    found = token_deletion(
        model, x, first, 0.5, target=1, removal="mask", fractions=[0.1, 0.5]
    )
    wanted = model(masked).double().softmax(dim=1)[:, 1]
    torch.testing.assert_close(found.probabilities[:, 0], wanted, rtol=1e-5, atol=1e-6)


def test_a_convolution_whose_stride_was_changed() -> None:
    """Overlapping patches of a stock model: its own grid knows the kernel alone."""
    model = timm_padding(dynamic_img_pad=False)
    model.patch_embed.proj.stride = (8, 8)
    model.patch_embed.strict_img_size = False
    adapter = resolve(model)
    x = torch.randn(1, 3, 64, 48)
    assert adapter.patch_grid(x) == (7, 5)
    layout = adapter.layout(x)
    assert layout == PatchLayout((8, 8), (16, 16), (-0.0, -0.0))
    assert LeGrad(adapter).attribute(x, target=1).shape == (1, 1, 64, 48)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"stride": (0, 4)}, r"stride: got \(0, 4\), takes two numbers above 0"),
        ({"stride": 4}, "stride: got 4, takes two numbers"),
        ({"stride": (4, 4), "size": (-1, 4)}, "size: got"),
        ({"stride": (4, 4), "offset": (0, float("nan"))}, "offset: got"),
    ],
)
def test_layouts_that_are_none(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatchLayout(**numbers)


def test_an_adapter_that_says_no_layout() -> None:
    adapter = replace(
        find_adapter(timm_padding()), patch_layout=lambda images: (16, 16)
    )
    with pytest.raises(TypeError, match="patch_layout returned tuple"):
        LeGrad(adapter).attribute(torch.randn(1, 3, 64, 64), target=1)
