"""Classifiers that are passed as objects, of three libraries, and errors in Python."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.models import VisionTransformer

from captum_mda import demo
from captum_mda.evaluate import (
    build_method,
    Classifier,
    compute_map,
    demo_samples,
    load_classifier,
    make_case,
)
from captum_mda.evaluate._arguments import ArgumentError, message_of, spelled

SIDE, PATCH, CLASSES = 32, 8, 5
HALF = (0.5, 0.5, 0.5)


def transformers_model() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=SIDE,
        patch_size=PATCH,
        id2label={index: f"class {index}" for index in range(CLASSES)},
    )
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model.eval()


def torchvision_model() -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(SIDE, PATCH, 2, 2, 16, 32, num_classes=CLASSES)
    # torchvision starts with a head of zeros
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


def timm_model() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=SIDE,
        patch_size=PATCH,
        depth=2,
        num_classes=CLASSES,
    )
    return model.eval()


def loaded(library: str) -> Classifier:
    if library == "transformers":
        return load_classifier(transformers_model(), mean=HALF, std=HALF)
    make = {"timm": timm_model, "torchvision": torchvision_model}[library]
    return load_classifier(make())


@pytest.mark.parametrize("library", ["timm", "transformers", "torchvision"])
def test_a_loaded_model_says_what_it_takes(library: str) -> None:
    classifier = loaded(library)
    assert classifier.size == (SIDE, SIDE) and classifier.patch_size == (PATCH, PATCH)
    assert classifier.n_classes == CLASSES and classifier.grid == (4, 4)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = classifier.transform(Image.fromarray(pixels))
    assert tuple(image.shape) == (3, SIDE, SIDE)
    case = make_case(classifier, image)
    assert case.target == int(classifier.scores(image[None]).argmax())
    named = library == "transformers"
    assert classifier.class_name(3) == ("class 3" if named else "")
    found = compute_map(build_method("bi-attn", classifier), case)
    assert tuple(found.values.shape) == (1, 1, SIDE, SIDE)
    assert float(found.values.abs().max()) > 0.0 and not found.provenance
    deleted = compute_map(build_method("occlusion", classifier), case)
    assert float(deleted.values.abs().max()) > 0.0


def test_colours_of_a_module_are_its_own() -> None:
    classifier = load_classifier(torchvision_model())
    assert classifier.mean == timm.data.IMAGENET_DEFAULT_MEAN
    other = load_classifier(torchvision_model(), mean=HALF, std=(1.0, 1.0, 1.0))
    assert other.mean == HALF and other.std == (1.0, 1.0, 1.0)


def test_a_module_comes_back_untouched() -> None:
    model = torchvision_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    classifier = load_classifier(model)
    assert classifier.model is model and not model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (transformers_model, {}, "model: it does not say how its images are normal"),
        (transformers_model, {"mean": HALF}, "model: it does not say how its images"),
        (
            torchvision_model,
            {"mean": (0.5,), "std": (0.5,)},
            "mean, std: got 1 and 1 numbers, takes one for each of the 3 channels",
        ),
        (torchvision_model, {"num_classes": 3}, "num_classes and model_args are for"),
        (lambda: torchvision_model().train(), {}, "model: got one in training mode"),
        (lambda: nn.Linear(2, 3).eval(), {}, "model: got Linear, takes a classifier"),
        (lambda: "demo", {"weights_key": "x"}, "the demo model has its own weights"),
        (lambda: "demo", {"mean": HALF, "std": HALF}, "mean, std: are for a model"),
        (lambda: "demo", {"device": "tpu"}, "device: got 'tpu'"),
        (lambda: "demo", {"score": "relu"}, "score: got 'relu'"),
        (lambda: "demo", {"patch_size": 7}, "patch_size: got 7 x 7 pixels"),
        (lambda: "no_such_model", {}, "model: timm has no model 'no_such_model'"),
    ],
)
def test_errors_name_arguments_of_python(
    model: object, options: dict[str, object], message: str
) -> None:
    assert callable(model)
    with pytest.raises(ValueError, match=f".*{message}") as error:
        load_classifier(model(), **options)
    assert "--" not in str(error.value)


def test_a_target_out_of_range_is_told_with_the_range() -> None:
    classifier = load_classifier("demo", device="cpu")
    with pytest.raises(ValueError, match="target: got 10, takes a class from 0 to 9"):
        make_case(classifier, demo_samples(1)[0].read(), 10)


def test_samples_have_their_masks() -> None:
    (source,) = demo_samples(1, seed=3)
    wanted = demo.make_samples(1, 3)
    assert torch.equal(source.read(), wanted.images[0])
    assert source.mask is not None and torch.equal(source.mask, wanted.masks[0, 0])


def test_each_caller_writes_names_in_its_own_way() -> None:
    error = ArgumentError("{model_args}: pass {model_args=img_size=384}, {target=cat}")
    assert str(error) == ('model_args: pass model_args={"img_size": 384}, target="cat"')
    assert message_of(error, lambda name, value: name.upper()).startswith("MODEL_ARGS")
    assert spelled("{other} {0}") == "{other} {0}"
