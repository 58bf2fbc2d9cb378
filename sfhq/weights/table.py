"""Weights that others trained: one table of what they are, where they lie and what they allow.

A size or digest stands here only where somebody published it, and the row names who. Where nobody
did, it is None, and the user pins what was received. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sfhq.errors import UsageError

Commercial = Literal["yes", "no", "unclear"]

NVIDIA = (
    "NVIDIA Source Code License: research and evaluation only; the same holds for everything "
    "derived from it"
)
CELEBAMASK = (
    "MIT code; trained on CelebAMask-HQ: non-commercial research only, what derives from it too"
)
FAN = "BSD-3 code; trained on the 300-W family of research datasets, so treat it as non-commercial"
FAN_URL = "https://www.adrianbulat.com/downloads/python-fan/"
FACE_ALIGNMENT = "https://github.com/1adrianb/face-alignment"


@dataclass(frozen=True)
class ModelRow:
    """One weights file.

    Attributes:
        name: what the commands call it.
        purpose: what it is, in at most 30 characters.
        file: its name in the cache.
        licence: identifier to give to `--accept-licence`.
        terms: what the licence says, in a few words.
        commercial: whether it allows commercial use.
        needed_by: commands of this version that use it; empty where only a package uses it.
        page: where it is published, for people.
        url: where it is downloaded from; None where no such address is known.
        size: published bytes; None where nobody published them.
        sha256: published digest; None where nobody published one.
        sha256_from: who published size and digest.
        hint: what else to know, such as how to get a file that cannot be fetched.
        also: other places where a program may have put it, as "scheme:pattern" (see
            `sfhq.weights.store.places`).
        place: "torch-hub" where a package looks for the file in torch's own cache, "package" where
            commands read it from an installed package and nowhere else.
        converts_to: option that takes the file once it is converted.
    """

    name: str
    purpose: str
    file: str
    licence: str
    terms: str
    commercial: Commercial
    needed_by: tuple[str, ...]
    page: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    sha256_from: str = ""
    hint: str = ""
    also: tuple[str, ...] = ()
    place: Literal["", "torch-hub", "package"] = ""
    converts_to: Literal["", "--generator", "--e4e"] = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON can hold it."""
        return asdict(self)


ROWS: tuple[ModelRow, ...] = (
    ModelRow(
        "stylegan2-ffhq-1024",
        "StyleGAN2 FFHQ, NVlabs .pkl",
        "ffhq.pkl",
        "NVIDIA-NC",
        NVIDIA,
        "no",
        ("invert", "synthesize", "sample", "run"),
        "https://github.com/NVlabs/stylegan2-ada-pytorch",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl",
        381_624_121,
        "a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c",
        "the Hugging Face hub, for copies of the file, and public scripts that pin this address",
        hint="e4e-ffhq belongs to it (stylegan3's stylegan2-ffhq-1024x1024.pkl is another "
        "training, to which e4e-ffhq does not belong)",
        converts_to="--generator",
    ),
    ModelRow(
        "stylegan2-ffhq-1024-tf",
        "StyleGAN2 FFHQ, TensorFlow",
        "stylegan2-ffhq-config-f.pkl",
        "NVIDIA-NC",
        NVIDIA,
        "no",
        ("invert", "synthesize", "sample", "run"),
        "https://github.com/NVlabs/stylegan2",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/stylegan2-ffhq-config-f.pkl",
        hint="TensorFlow is not needed to convert it; e4e-ffhq belongs to it",
        converts_to="--generator",
    ),
    ModelRow(
        "stylegan2-ffhq-1024-pt",
        "StyleGAN2 FFHQ, rosinality .pt",
        "stylegan2-ffhq-config-f.pt",
        "NVIDIA-NC",
        NVIDIA,
        "no",
        ("invert", "synthesize", "sample", "run"),
        "https://drive.google.com/file/d/1EM87UquaoQmk17Q8d5kYIAHqu0dkYqdT/view",
        hint="several conversions go by this name; get one in a browser (the page is "
        "encoder4editing's) and run: sfhq models add stylegan2-ffhq-1024-pt FILE --pin",
        converts_to="--generator",
    ),
    ModelRow(
        "e4e-ffhq",
        "e4e encoder for that generator",
        "e4e_ffhq_encode.pt",
        "NVIDIA-NC",
        f"MIT encoder; the generator inside it is under NVIDIA's terms. {NVIDIA}",
        "no",
        ("invert", "synthesize", "sample", "run"),
        "https://github.com/omertov/encoder4editing",
        "https://drive.usercontent.google.com/download"
        "?id=1cUv_reLE6k3604or78EranS7XzuVMWeO&export=download&confirm=t",
        1_201_649_680,
        "2ace1d9a8c05c10a399bcd500b8dda118f759ff1aac89dbdab7435f2136a0999",
        "the Hugging Face hub, for copies that agree: wmpscc/StyleGene, zhengchong/e4e",
        converts_to="--e4e",
    ),
    ModelRow(
        "bisenet",
        "face parsing, 79999_iter",
        "79999_iter.pth",
        "CelebAMask-NC",
        CELEBAMASK,
        "no",
        ("parse --network bisenet",),
        "https://github.com/zllrunning/face-parsing.PyTorch",
        "https://github.com/clibdev/face-parsing.PyTorch/releases/latest/download/"
        "face-parsing-bisenet.pth",
        53_289_463,
        "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        "clibdev/face-parsing.PyTorch, which publishes zllrunning's file on its releases page",
    ),
    ModelRow(
        "bisenet-resnet18",
        "face parsing, yakhyo ResNet-18",
        "resnet18.pt",
        "CelebAMask-NC",
        CELEBAMASK,
        "no",
        ("parse --network bisenet",),
        "https://github.com/yakhyo/face-parsing",
        "https://github.com/yakhyo/face-parsing/releases/download/weights/resnet18.pt",
    ),
    ModelRow(
        "bisenet-resnet34",
        "face parsing, yakhyo ResNet-34",
        "resnet34.pt",
        "CelebAMask-NC",
        CELEBAMASK,
        "no",
        ("parse --network bisenet",),
        "https://github.com/yakhyo/face-parsing",
        "https://github.com/yakhyo/face-parsing/releases/download/weights/resnet34.pt",
    ),
    ModelRow(
        "fan-4",
        "landmarks, face-alignment 1.5",
        "2DFAN4-11f355bf06.pth.tar",
        "300W-NC",
        FAN,
        "no",
        ("landmark --points fan",),
        FACE_ALIGNMENT,
        FAN_URL + "2DFAN4-11f355bf06.pth.tar",
        sha256="11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        sha256_from="its first ten digits are in the file's name; the rest from public scripts "
        "that pin it",
        hint="face-alignment 1.5 looks for this name in torch's hub folder",
        also=("torch-hub:2DFAN4-11f355bf06.pth.tar",),
        place="torch-hub",
    ),
    ModelRow(
        "fan-4-zip",
        "same, face-alignment 1.2-1.4",
        "2DFAN4-cd938726ad.zip",
        "300W-NC",
        FAN,
        "no",
        (),
        FACE_ALIGNMENT,
        FAN_URL + "2DFAN4-cd938726ad.zip",
        96_316_515,
        "cd938726adb1f15f361263cce2db9cb820c42585fa8796ec72ce19107f369a46",
        "its first ten digits are in the file's name; the rest from public scripts that pin it",
        hint="face-alignment 1.2 to 1.4 looks for this name in torch's hub folder",
        also=("torch-hub:2DFAN4-cd938726ad.zip",),
        place="torch-hub",
    ),
    ModelRow(
        "s3fd",
        "detector of face-alignment",
        "s3fd-619a316812.pth",
        "BSD-3-Clause",
        "BSD-3 code; the licence of the weights is not stated, so treat them as non-commercial",
        "unclear",
        (),
        FACE_ALIGNMENT,
        FAN_URL + "s3fd-619a316812.pth",
        89_843_225,
        "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        "its first ten digits are in the file's name; the rest from the copy in "
        "camenduru/Wav2Lip on the Hugging Face hub",
        hint="face-alignment looks for this name in torch's hub folder",
        also=("torch-hub:s3fd-619a316812.pth",),
        place="torch-hub",
    ),
    ModelRow(
        "dlib-68",
        "landmarks, dlib",
        "shape_predictor_68_face_landmarks.dat",
        "300W-NC",
        "Boost code; trained on iBUG 300-W, whose licence excludes commercial use",
        "no",
        ("align", "detect", "embed", "export", "run"),
        "https://pypi.org/project/face-recognition-models/",
        size=99_693_937,
        sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        sha256_from="the file in face-recognition-models 0.3.0",
        hint="comes with: pip install face-recognition-models",
        also=("package:face_recognition_models/models/shape_predictor_68_face_landmarks.dat",),
        place="package",
    ),
    ModelRow(
        "clip-vit-l-14-336",
        "CLIP by OpenAI, for open_clip",
        "open_clip_model.safetensors",
        "MIT",
        "MIT, as OpenAI published CLIP",
        "yes",
        ("embed --encoder clip",),
        "https://huggingface.co/timm/vit_large_patch14_clip_336.openai",
        "https://huggingface.co/timm/vit_large_patch14_clip_336.openai/resolve/"
        "81e38efc4637de5023b10e75a7f9bd1c6fa6b010/open_clip_model.safetensors",
        1_711_828_444,
        "fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
        "the Hugging Face hub, whose cache names the file by it, and public scripts that pin it",
        hint="OpenAI's own ViT-L-14-336px.pt is TorchScript, which open_clip no longer loads",
        also=(
            "hf:models--timm--vit_large_patch14_clip_336.openai/snapshots/*/"
            "open_clip_model.safetensors",
        ),
    ),
    ModelRow(
        "bert-base-uncased",
        "text encoder, start of FLIP",
        "model.safetensors",
        "Apache-2.0",
        "Apache 2.0",
        "yes",
        ("flip train",),
        "https://huggingface.co/google-bert/bert-base-uncased",
        "https://huggingface.co/google-bert/bert-base-uncased/resolve/"
        "86b5e0934494bd15c9632b12f734a8a67f723594/model.safetensors",
        440_449_768,
        "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
        "the Hugging Face hub, for copies of google-bert/bert-base-uncased",
        also=(
            "hf:models--google-bert--bert-base-uncased/snapshots/*/model.safetensors",
            "hf:models--bert-base-uncased/snapshots/*/model.safetensors",
        ),
    ),
    ModelRow(
        "flip",
        "FLIP, faces and captions",
        "FLIP-base.pth",
        "Apache-2.0",
        "Apache 2.0 by its card; trained on FaceCaption-15M, which is for research only",
        "unclear",
        (),
        "https://huggingface.co/OpenFace-CQUPT/FLIP",
        "https://huggingface.co/OpenFace-CQUPT/FLIP/resolve/main/ckpt/FLIP-base.pth",
    ),
    ModelRow(
        "attributes",
        "attributes of a face",
        "attributes.safetensors",
        "your-own",
        "that of the file you add",
        "unclear",
        (),
        "",
        hint="no file is published in a form we read; train one, and add it with: "
        "sfhq models add attributes FILE --pin",
    ),
)


def model_row(name: str) -> ModelRow:
    """The row of a name.

    Raises:
        UsageError: there is none; says the nearest.
    """
    for row in ROWS:
        if row.name == name:
            return row
    near = difflib.get_close_matches(name, [row.name for row in ROWS], n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}?" if near else "see: sfhq models list"
    raise UsageError(f"{name}: no such model; {advice}")
