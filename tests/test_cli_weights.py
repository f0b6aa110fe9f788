"""Fine-tuned models of the command line: weights in files, class names, scores."""

from __future__ import annotations

import argparse
import csv
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn, Tensor
from typer.testing import CliRunner

from captum_mda._cli.app import app
from captum_mda.evaluate._class_names import find_class, read_labels
from captum_mda.evaluate._timm_models import parse_model_args
from captum_mda.evaluate.case import Case, too_low
from captum_mda.evaluate.models import Classifier, load_classifier

NAME = "vit_tiny_patch16_224"
SIDE, CLASSES = 32, 7
SMALL = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
WORDS = [
    word for key, value in SMALL.items() for word in ("--model-arg", f"{key}={value}")
]


def make(**options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings: dict[str, Any] = {"num_classes": CLASSES, **SMALL, **options}
        model: nn.Module = timm.create_model(NAME, pretrained=False, **settings)
        for parameter in model.parameters():  # a head of zeros would hide mistakes
            nn.init.normal_(parameter, std=0.2)
        return model.eval()


@cache
def tuned() -> nn.Module:
    """A model that was fine-tuned; everybody else finds its weights in files."""
    return make()


def weights() -> dict[str, Tensor]:
    return dict(tuned().state_dict())


def named(prefix: str, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in (state or weights()).items()}


def others() -> dict[str, Tensor]:
    return {name: value + 1 for name, value in weights().items()}


def load(path: Path, told: list[str] | None = None, **options: Any) -> Classifier:
    options = {"model_args": SMALL, "device": "cpu"} | options
    note = (lambda text: None) if told is None else told.append
    return load_classifier(NAME, weights=path, note=note, **options)


def assert_is_tuned(classifier: Classifier) -> None:
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(classifier.model(images), tuned()(images))


class Settings:
    """What a training script may keep beside its weights."""


def files() -> dict[str, Callable[[], Any]]:
    """What `torch.save` is given, in the usual ways of training scripts."""
    optimizer = {
        "state": {0: {"exp_avg": torch.zeros(3)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    return {
        "state dict": weights,
        "OrderedDict": lambda: OrderedDict(weights()),
        "state_dict": lambda: {"state_dict": weights(), "epoch": 3},
        "model": lambda: {"model": weights(), "optimizer": optimizer, "scaler": {}},
        "model_state_dict": lambda: {
            "model_state_dict": weights(),
            "optimizer_state_dict": optimizer,
            "best_acc": np.float64(0.5),
            "loss": np.float32(0.1),
        },
        "timm": lambda: {
            "state_dict": named("module."),
            "args": argparse.Namespace(lr=0.1, output=PosixPath("/tmp")),
            "arch": NAME,
            "optimizer": optimizer,
        },
        "nested": lambda: {"model": {"state_dict": weights()}},
        "data parallel": lambda: named("module."),
        "compiled": lambda: named("_orig_mod."),
        "both": lambda: named("module._orig_mod."),
        "wrapper": lambda: {"state_dict": named("module.model.")},
        "own wrapper": lambda: named("net.vit."),
        "sequential": lambda: named("1."),
        "lightning": lambda: {
            "state_dict": named("model.") | {"criterion.weight": torch.ones(CLASSES)},
            "hyper_parameters": {"lr": 0.1},
            "callbacks": {},
        },
        "backbone and head": lambda: {
            name.replace("backbone.head.", "fc."): value
            for name, value in named("backbone.").items()
        },
        "counted operations": lambda: weights() | {"total_ops": torch.zeros(1)},
    }


@pytest.mark.parametrize("name", list(files()))
def test_weights_of_torch_save(name: str, tmp_path: Path) -> None:
    torch.save(files()[name](), tmp_path / "weights.pth")
    told: list[str] = []
    classifier = load(tmp_path / "weights.pth", told)
    assert classifier.n_classes == CLASSES and classifier.size == (SIDE, SIDE)
    assert_is_tuned(classifier)
    assert any("made with num_classes=7" in text for text in told)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod."])
@pytest.mark.parametrize("ending", ["safetensors", "bin", "pt", "legacy"])
def test_prefixes_are_stripped_with_a_note(
    prefix: str, ending: str, tmp_path: Path
) -> None:
    path, state = tmp_path / f"weights.{ending}", named(prefix)
    if ending == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif ending == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    told: list[str] = []
    assert_is_tuned(load(path, told))
    stripped = f"note: {path}: the prefix {prefix!r} of the weights' names is stripped"
    assert (stripped in told) == bool(prefix)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    torch.save(files()["lightning"](), tmp_path / "last.ckpt")
    load(tmp_path / "last.ckpt", told)
    assert any("1 tensors without the prefix 'model.' are left out" in t for t in told)
    told.clear()
    torch.save(files()["backbone and head"](), tmp_path / "head.pth")
    load(tmp_path / "head.pth", told)
    assert any("'fc' is taken for the classifier" in text for text in told)


@pytest.mark.parametrize(
    ("held", "keys"),
    [
        (
            {"state_dict": weights, "state_dict_ema": others},
            ("state_dict", "state_dict_ema"),
        ),
        (
            {"student": lambda: named("module.", others()), "teacher": weights},
            ("teacher", "student"),
        ),
        (
            {"net": lambda: named("model.") | named("ema_model.module.", others())},
            ("model", "net.ema_model.module"),
        ),
        ({"a": lambda: {"b": weights()}, "c": others}, ("a.b", "c")),
    ],
    ids=["timm", "self-distilled", "prefixes", "nested"],
)
def test_one_of_several_models_is_chosen(
    held: dict[str, Callable[[], Any]], keys: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: value() for key, value in held.items()}, path)
    with pytest.raises(
        ValueError, match=r"several models; choose one by weights_key"
    ) as e:
        load(path)
    assert all(key.rpartition(".")[2] in str(e.value) for key in keys)
    own, other = (
        load(path, weights_key=key).model.state_dict()["pos_embed"] for key in keys
    )
    assert torch.equal(own, weights()["pos_embed"])
    assert torch.equal(other, others()["pos_embed"])
    with pytest.raises(ValueError, match=r"weights_key: got 'x', and .* has "):
        load(path, weights_key="x")


def test_a_key_of_a_file_without_keys(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights_key: got 'x'.* without keys"):
        load(tmp_path / "weights.pth", weights_key="x")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_classes": 3}, "num_classes=3"),
        ({"num_classes": 1000}, ""),
        ({"num_classes": 3, "in_chans": 1}, "num_classes=3, in_chans=1"),
        ({"num_classes": 3, "img_size": 48}, "num_classes=3, img_size=48"),
    ],
)
def test_what_weights_were_made_with_is_inferred(
    options: dict[str, int], told: str, tmp_path: Path
) -> None:
    torch.save(make(**options).state_dict(), tmp_path / "weights.pth")
    notes: list[str] = []
    given = {name: value for name, value in SMALL.items() if name != "img_size"}
    # Of 224 pixels, unless the weights say other.
    given |= {} if "img_size" in options else {"img_size": SIDE}
    classifier = load(tmp_path / "weights.pth", notes, model_args=given)
    assert classifier.n_classes == options["num_classes"]
    side = options.get("img_size", SIDE)
    assert classifier.size == (side, side)
    image = classifier.transform(Image.new("RGB", (50, 40), "red"))
    assert image.shape == (options.get("in_chans", 3), side, side)
    assert classifier.scores(image[None]).shape == (1, options["num_classes"])
    made = [text for text in notes if "made with" in text]
    wanted = (
        f"note: {tmp_path / 'weights.pth'}: made with {told}, by its tensors' shapes"
    )
    assert made == ([wanted] if told else [])


def test_grey_models_see_grey(tmp_path: Path) -> None:
    torch.save(make(in_chans=1).state_dict(), tmp_path / "weights.pth")
    classifier = load(tmp_path / "weights.pth")
    (value,) = classifier.transform(Image.new("RGB", (9, 9), (90, 90, 90))).unique()
    assert float(value) == pytest.approx((90 / 255 - 0.5) / 0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("make_state", "options", "message"),
    [
        (weights, {"num_classes": 5}, "by its tensors it was made with num_classes=7"),
        (lambda: make(img_size=48).state_dict(), {}, "it was made with img_size=48"),
        (
            lambda: make(depth=3).state_dict(),
            {},
            "12 tensors unknown, such as 'blo",
        ),
        (
            lambda: make(depth=1).state_dict(),
            {},
            "12 tensors missing, such as 'blo",
        ),
        (lambda: make(in_chans=4).state_dict(), {}, "takes images of 4 channels"),
        (lambda: make(num_classes=0).state_dict(), {}, "no weights of the classifier"),
        (
            lambda: {"conv.weight": torch.ones(2)},
            {},
            "1 tensors unknown, such as",
        ),
        (
            lambda: weights() | {"head.weight": torch.zeros(7, 25)},
            {},
            "'head.weight', (7, 25) for (7, 24)",
        ),
    ],
)
def test_weights_that_do_not_fit(
    make_state: Callable[[], Any],
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
) -> None:
    torch.save(dict(make_state()), tmp_path / "weights.pth")
    with pytest.raises(ValueError) as error:
        load(tmp_path / "weights.pth", **options)
    assert message in str(error.value) and "\n" not in str(error.value)


def bad_files(folder: Path) -> dict[str, tuple[Any, str]]:
    """Bytes of files, or what `torch.save` is given, and what is said of each."""
    torch.save(weights(), folder / "whole")
    whole = (folder / "whole").read_bytes()
    return {
        "model": (tuned(), "holds objects of .*torch.save"),
        "object": ({"model": weights(), "cfg": Settings()}, "Settings besides tensors"),
        "no tensors": ({"epoch": 3}, "holds no state dict"),
        "a list": ([torch.ones(2)], "holds no state dict"),
        "text": (b"no weights", "no file of weights"),
        "empty": (b"", "no file of weights"),
        "cut": (whole[: len(whole) // 2], "truncated, or no file of weights"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "safetensors": (b"\x10\0\0\0\0\0\0\0{", "not a safetensors file"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "object",
        "no tensors",
        "a list",
        "text",
        "empty",
        "cut",
        "pointer",
        "safetensors",
    ],
)
def test_files_that_are_no_weights(name: str, tmp_path: Path) -> None:
    held, message = bad_files(tmp_path)[name]
    path = tmp_path / "weights.pth"
    path.write_bytes(held) if isinstance(held, bytes) else torch.save(held, path)
    with pytest.raises(ValueError, match=rf"^weights: {path}.*{message}"):
        load(path)


def test_torchscript_is_told(tmp_path: Path) -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    torch.jit.save(torch.jit.script(Module()), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"TorchScript archive.*state_dict"):
        load(tmp_path / "weights.pt")


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"model": weights(), "x": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="holds objects of"):
        load(tmp_path / "weights.pth")
    assert not (tmp_path / "touched").exists()


def test_model_arguments() -> None:
    words = ["img_size=(32, 64)", "class-token=False", "drop_rate=1e-1", "name=a=b"]
    words += ["global_pool=''", "cfg={'mean': (0.5, 0.5, 0.5)}", "act=None", "pool=avg"]
    assert parse_model_args(words) == {
        "img_size": (32, 64),
        "class_token": False,
        "drop_rate": 0.1,
        "name": "a=b",
        "global_pool": "",
        "cfg": {"mean": (0.5, 0.5, 0.5)},
        "act": None,
        "pool": "avg",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["img_size"], "got 'img_size', takes KEY=VALUE"),
        (["=3"], "takes KEY=VALUE"),
        (["2x=3"], "takes KEY=VALUE"),
        (["a=1", "a=2"], "a is given twice"),
        (["num_classes=3"], "num_classes has an option, num_classes"),
        (["checkpoint_path=x"], "has an option, weights"),
    ],
)
def test_model_arguments_that_are_none(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^model_args: .*{message}"):
        parse_model_args(words)


@pytest.mark.parametrize("argument", [{"dept": 3}, {"embed_dim": 25}])
def test_arguments_that_timm_does_not_take(argument: dict[str, int]) -> None:
    arguments = SMALL | argument
    with pytest.raises(ValueError, match=r"^model_args: timm cannot make") as error:
        load_classifier(NAME, pretrained=False, device="cpu", model_args=arguments)
    name, value = next(iter(argument.items()))
    assert f"{name}={value}" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": 40}, "patch_size: got 16 x 16 pixels, takes a size that"),
        ({"features_only": True}, "is no classifier: for one image it returns list"),
        ({"global_pool": ""}, r"is no classifier: for one image it returns \(1, "),
    ],
)
def test_models_that_are_no_classifiers(
    arguments: dict[str, Any], message: str
) -> None:
    arguments = {"embed_dim": 24, "depth": 3, "num_heads": 3} | arguments
    with pytest.raises(ValueError, match=message):
        load_classifier(NAME, pretrained=False, device="cpu", model_args=arguments)


def test_a_model_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: Tensor) -> Tensor:
        raise AssertionError("wrong size")

    model = make()
    monkeypatch.setattr(model, "forward", fail)
    monkeypatch.setattr("timm.create_model", lambda name, pretrained: model)
    with pytest.raises(ValueError, match=r"does not run on an image of .*wrong size"):
        load_classifier(NAME, pretrained=False, device="cpu")


HEADLESS = {
    "vit_small_patch16_dinov3": "has no classifier (num_classes=0): its 384 outputs",
    "vit_small_patch14_dinov2": "has no classifier (num_classes=0): its 384 outputs",
    "vit_base_patch16_siglip_224": "has no classifier (num_classes=0): its 768 outputs",
    "vit_base_patch16_clip_224.openai": "image-text model: its 512 outputs are an emb",
    "vit_pe_core_tiny_patch16_384": "image-text model: its 512 outputs are an",
}


@pytest.mark.parametrize("name", list(HEADLESS))
def test_models_without_classes_are_refused(name: str) -> None:
    arguments = {"depth": 1}
    with pytest.raises(ValueError) as error:
        load_classifier(name, pretrained=False, device="cpu", model_args=arguments)
    message = str(error.value)
    assert message.startswith(f"model: {name} ") and HEADLESS[name] in message
    assert "weights=FILE" in message and "num_classes=N" in message
    explicit = load_classifier(
        name,
        pretrained=False,
        patch_size=2,
        device="cpu",
        model_args=arguments,
        num_classes=3,
    )
    assert explicit.n_classes == 3


def test_weights_bring_a_backbone_its_classifier(tmp_path: Path) -> None:
    name, arguments = "vit_small_patch16_dinov3", {"depth": 1, "img_size": 64}
    model = timm.create_model(name, num_classes=3, **arguments).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    classifier = load_classifier(
        name,
        weights=tmp_path / "weights.pth",
        device="cpu",
        model_args=arguments,
    )
    assert classifier.n_classes == 3 and classifier.size == (64, 64)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(classifier.model(images), model(images))
    backbone = timm.create_model(name, **arguments)
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="has no classifier"):
        load_classifier(
            name,
            weights=tmp_path / "weights.pth",
            device="cpu",
            model_args=arguments,
        )


def test_a_random_classifier_is_no_pretrained_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = timm.create_model
    monkeypatch.setattr(
        "timm.create_model", lambda name, pretrained, **options: create(name, **options)
    )
    with pytest.raises(ValueError, match=r"num_classes: got 5, .* would be random"):
        load_classifier(NAME, device="cpu", num_classes=5, model_args=SMALL)
    same = load_classifier(NAME, device="cpu", num_classes=1000, model_args=SMALL)
    assert same.n_classes == 1000


LABELS: dict[str, str] = {
    "lines.txt": "cat\ndog\n\nfox, vulpes\n",
    "bom.txt": "\ufeffcat\r\ndog\r\nfox, vulpes\r\n",
    "numbered.txt": "0 cat\n1: dog\n2, fox, vulpes",
    "list.json": '["cat", "dog", "fox, vulpes"]',
    "by index.json": '{"0": "cat", "2": "fox, vulpes", "1": "dog"}',
    "by name.json": '{"dog": 1, "cat": 0, "fox, vulpes": 2}',
    "config.json": '{"id2label": {"0": "cat", "1": "dog", "2": "fox, vulpes"}}',
    "timm.json": '{"num_classes": 3, "label_names": ["cat", "dog", "fox, vulpes"]}',
}


@pytest.mark.parametrize("name", list(LABELS))
def test_files_of_labels(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LABELS[name], encoding="utf-8", newline="")
    assert read_labels(tmp_path / name, 3) == ["cat", "dog", "fox, vulpes"]
    with pytest.raises(ValueError, match=r"^labels: .* has 3 names, and the mo"):
        read_labels(tmp_path / name, 4)


def test_labels_of_imagenet(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(
        json.dumps({"0": ["n01440764", "tench"], "1": ["n01443537", "gold fish"]})
    )
    names = read_labels(path, 2)
    assert find_class("n01440764", names, 2) == 0
    assert find_class("Gold-Fish", names, 2) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not name classes"),
        ('{"a": "b"}', "its keys are no indices"),
        ('{"0": "a", "2": "b"}', "its indices are not 0 to 1"),
        ('{"a": 0, "b": 0}', "its indices are not 0 to"),
        ("", "has 0 names"),
    ],
)
def test_labels_that_name_no_classes(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ValueError, match=f"^labels: .*{message}"):
        read_labels(tmp_path / "labels.json", 2)
    (tmp_path / "labels.json").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"^labels: .* cannot be read"):
        read_labels(tmp_path / "labels.json", 2)


NAMES = ["tabby, tabby cat", "golden retriever", "crane", "crane", "tiger cat", "7"]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("1", 1),
        (" 1 ", 1),
        ("golden retriever", 1),
        ("Golden_Retriever", 1),
        ("golden-retriever", 1),
        ("tabby", 0),
        ("TABBY CAT", 0),
        ("tabby, tabby cat", 0),
        ("tiger cat", 4),
        ("retriever", 1),
        ("Golden", 1),
    ],
)
def test_targets_by_name(text: str, index: int) -> None:
    assert find_class(text, NAMES, len(NAMES)) == index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crane", r"'crane' is the name of several classes, 2 \(crane\), 3 \(crane\)"),
        ("golden retreiver", r"no class is called .*; close to it: 1 \(golden retr"),
        (
            "cat",
            r"no class is called .*; close to it: 0 \(tabby, tabby cat\), 4 \(tig",
        ),
        ("tabbi", r"no class is called 'tabbi'; close to it: 0 \(tabby, tabby cat\)"),
        ("zebra", "no class is called 'zebra'; or pass a class from 0 to 5"),
        ("7", "got 7, takes a class from 0 to 5"),
        ("-1", "got -1, takes a class"),
        ("", "no class is called ''"),
        ("1.5", "no class is called '1.5'"),
    ],
)
def test_targets_of_no_class(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^--target: {message}"):
        find_class(text, NAMES, len(NAMES), "--target")


def test_targets_without_names() -> None:
    with pytest.raises(ValueError, match=r"no names here; .* 0 to 8, or labels=FILE"):
        find_class("cat", (), 9)


def test_classes_are_called_by_their_first_name() -> None:
    classifier = Classifier(
        model=nn.Identity(),
        transform=lambda image: torch.zeros(1),
        size=(8, 8),
        mean=(),
        std=(),
        patch_size=(8, 8),
        n_classes=4,
        class_names=["tabby, tabby cat", "Paris, France", "Paris, Texas", "dog"],
        device=torch.device("cpu"),
    )
    shown = [classifier.class_name(index) for index in range(5)]
    assert shown == ["tabby", "Paris, France", "Paris, Texas", "dog", ""]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def as_input(photo: Path) -> Tensor:
    """The photo as timm prepares it for the model."""
    from timm.data import create_transform

    transform = create_transform(
        (3, SIDE, SIDE),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        crop_pct=0.9,
        interpolation="bicubic",
    )
    return transform(Image.open(photo))[None]


def run(tmp_path: Path, *arguments: object) -> Any:
    command = [
        *arguments,
        "--model",
        NAME,
        *WORDS,
        "--out",
        tmp_path / "out",
        "--overwrite",
    ]
    words = [str(word) for word in (*command, "--no-progress", "--device", "cpu")]
    return CliRunner().invoke(app, words)


def rows_of(tmp_path: Path) -> list[dict[str, str]]:
    (path,) = (tmp_path / "out").glob("*.csv")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "command",
    [("explain",), ("compare", "--methods", "legrad,caap,ig")],
    ids=["explain", "compare"],
)
def test_a_fine_tuned_model_by_the_command_line(
    command: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    """From a training's checkpoint and its class names to a named class's map."""
    torch.save({"state_dict": named("module.")}, tmp_path / "last.ckpt")
    names = [f"class {letter}" for letter in "abcdefg"]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    with torch.no_grad():
        probabilities = tuned()(as_input(photo)).softmax(1)[0]
    index = int(probabilities.argmax())
    result = run(
        tmp_path,
        *command,
        photo,
        "--weights",
        tmp_path / "last.ckpt",
        "--labels",
        tmp_path / "labels.txt",
        "--target",
        names[index].upper(),
    )
    assert "the prefix 'module.'" in result.stderr and "num_classes=7" in result.stderr
    for row in rows_of(tmp_path):
        assert (row["class_index"], row["class_name"]) == (str(index), names[index])
        assert float(row["probability"]) == pytest.approx(
            float(probabilities[index]), abs=1e-5
        )


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize("score", ["sigmoid", "identity"])
def test_one_logit(command: str, score: str, photo: Path, tmp_path: Path) -> None:
    model = make(num_classes=1)
    model.head.bias.data.fill_(-0.5)
    torch.save(model.state_dict(), tmp_path / "one.pth")
    options = [command, photo, "--weights", tmp_path / "one.pth"]
    result = run(tmp_path, *options)
    assert result.exit_code == 2 and "--score sigmoid, if it tells two" in result.output
    run(tmp_path, *options, "--score", score)
    row = rows_of(tmp_path)[0]
    with torch.no_grad():
        logit = model(as_input(photo))[0, 0]
    wanted = float(logit.sigmoid() if score == "sigmoid" else logit)
    assert row["class_index"] == "0"
    assert float(row["probability"]) == pytest.approx(wanted, abs=1e-5)
    assert row["score"] == score
    assert row["error"] == "" or "the model has this one output" in row["error"]


def test_several_labels_at_once(photo: Path, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "weights.pth")
    options = (photo, "--weights", tmp_path / "weights.pth", "--target", 2)
    run(tmp_path, "compare", *options, "--methods", "occlusion", "--score", "sigmoid")
    (row,) = rows_of(tmp_path)
    with torch.no_grad():
        wanted = float(tuned()(as_input(photo))[0, 2].sigmoid())
    assert float(row["probability"]) == pytest.approx(wanted, abs=1e-5)
    assert row["max_confidence"] == "0.01"


def errors() -> dict[str, tuple[list[str], str]]:
    return {
        "score": (["--score", "relu"], "--score: got 'relu'"),
        "classes": (["--num-classes", "0"], "--num-classes: got 0"),
        "argument": (["--model-arg", "x"], "--model-arg: got 'x', takes KEY=VALUE"),
        "key": (["--weights-key", "x", "--no-pretrained"], "without --weights FILE"),
        "labels": (["--labels", "{}/none", "--no-pretrained"], "--labels: "),
        "target": (
            ["--target", "cat", "--no-pretrained", "--num-classes", "3"],
            "no names here",
        ),
    }


@pytest.mark.parametrize("case", list(errors()))
def test_errors_are_one_line(case: str, photo: Path, tmp_path: Path) -> None:
    words, message = errors()[case]
    for command in ("explain", "compare"):
        result = run(
            tmp_path, command, photo, *(word.format(tmp_path) for word in words)
        )
        assert result.exit_code == 2 and result.stdout == ""
        assert len(result.output.splitlines()) == 1 and message in result.output


@pytest.mark.parametrize(
    ("n_classes", "score", "likeliest", "scores", "message"),
    [
        (3, "softmax", 1, (0.2, 0.3, 0.1), "its likeliest class, target=1 (dog)"),
        (3, "softmax", 0, (0.5, 0.6, 0.1), "explain another target"),
        (3, "softmax", 0, (0.5, 0.1, 0.6), 'or pass deletion_baseline="black"'),
        (3, "sigmoid", 0, (0.1, 0.2, 0.2), "no class of it scores more"),
        (3, "sigmoid", 2, (0.1, 0.2, 0.2), "its likeliest class, target=2 (fox)"),
        (1, "sigmoid", 0, (0.1, 0.2, 0.2), "the model has this one output, and the"),
        (1, "identity", 0, (-3.0, 0.2, 0.2), "the model has this one output, and the"),
        (3, "softmax", 1, (0.5, 0.5, 0.5), "the score does not change at all"),
    ],
)
def test_what_is_said_of_a_score_below_its_baseline(
    n_classes: int,
    score: Any,
    likeliest: int,
    scores: tuple[float, float, float],
    message: str,
) -> None:
    classifier = Classifier(
        model=nn.Identity(),
        transform=lambda image: torch.zeros(1),
        size=(8, 8),
        mean=(0.5,),
        std=(0.5,),
        patch_size=(8, 8),
        n_classes=n_classes,
        class_names=["cat", "dog", "fox"][:n_classes],
        device=torch.device("cpu"),
        score=score,
    )
    own, blurred, deleted = scores
    image = torch.zeros(1, 1, 8, 8)
    case = Case(
        classifier=classifier,
        images=image,
        target=0,
        probability=own,
        likeliest=likeliest,
    )
    said = str(too_low(case, blurred, deleted))
    assert said.startswith(f"class 0 scores {own:.4g}, which must be above both")
    assert message in said
    assert ("deletion_baseline=" in said) == (blurred < own <= deleted)
