"""How much a network's image vectors say of attributes: by a linear model, and by words alone.

Sources: Zheng et al. 2022, "General Facial Representation Learning in a Visual-Linguistic Manner",
for heads trained on 1, 10 and 100 % of the data; Radford et al. 2021 for words instead of training.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from encoders.flip.data import Captioned
from encoders.flip.network import Flip
from encoders.flip.studies.facts import FaceFacts
from encoders.flip.tokens import Tokens
from sfhq.errors import UsageError

LEAST = 5  # faces with and without an attribute, in training and in the test
Floats = npt.NDArray[np.float64]
# What a face with an attribute, and one without, is said to look like.
PROMPTS: Mapping[str, tuple[str, str]] = {
    "5_o_Clock_Shadow": ("a man with stubble", "a man without stubble"),
    "Arched_Eyebrows": ("a person with arched eyebrows", "a person with straight eyebrows"),
    "Bags_Under_Eyes": ("a person with bags under the eyes", "a person with smooth eyes"),
    "Bald": ("a bald person", "a person with hair"),
    "Bangs": ("a person with bangs", "a person with a bare forehead"),
    "Big_Lips": ("a person with full lips", "a person with thin lips"),
    "Big_Nose": ("a person with a big nose", "a person with a small nose"),
    "Black_Hair": ("a person with black hair", "a person with blond hair"),
    "Blond_Hair": ("a person with blond hair", "a person with black hair"),
    "Brown_Hair": ("a person with brown hair", "a person with gray hair"),
    "Bushy_Eyebrows": ("a person with bushy eyebrows", "a person with thin eyebrows"),
    "Chubby": ("a chubby person", "a slim person"),
    "Double_Chin": ("a person with a double chin", "a person with a firm chin"),
    "Eyeglasses": ("a person who wears eyeglasses", "a person without glasses"),
    "Goatee": ("a man with a goatee", "a man without a beard"),
    "Gray_Hair": ("an older person with gray hair", "a person with brown hair"),
    "Heavy_Makeup": ("a woman who wears heavy makeup", "a person without makeup"),
    "High_Cheekbones": ("a person with high cheekbones", "a person with low cheekbones"),
    "Male": ("a man", "a woman"),
    "Mouth_Slightly_Open": (
        "a person whose mouth is slightly open",
        "a person whose mouth is closed",
    ),
    "Mustache": ("a man with a mustache", "a man without a mustache"),
    "Narrow_Eyes": ("a person with narrow eyes", "a person with wide eyes"),
    "No_Beard": ("a clean-shaven man", "a man with a beard"),
    "Oval_Face": ("a person with an oval face", "a person with a square face"),
    "Pale_Skin": ("a person with pale skin", "a person with dark skin"),
    "Pointy_Nose": ("a person with a pointy nose", "a person with a flat nose"),
    "Receding_Hairline": (
        "a man with a receding hairline",
        "a man with a full head of hair",
    ),
    "Rosy_Cheeks": ("a person with rosy cheeks", "a person with pale cheeks"),
    "Sideburns": ("a man with sideburns", "a man without sideburns"),
    "Smiling": ("a smiling person", "a serious person"),
    "Straight_Hair": ("a person with straight hair", "a person with wavy hair"),
    "Wavy_Hair": ("a person with wavy hair", "a person with straight hair"),
    "Wearing_Earrings": ("a person who wears earrings", "a person without earrings"),
    "Wearing_Hat": ("a person who wears a hat", "a person without a hat"),
    "Wearing_Lipstick": ("a woman who wears lipstick", "a person without lipstick"),
    "Wearing_Necklace": ("a woman who wears a necklace", "a person without a necklace"),
    "Wearing_Necktie": ("a man who wears a necktie", "a man without a necktie"),
    "Young": ("a young person", "an old person"),
}


@dataclass(frozen=True)
class Probe:
    """How well attributes are told.

    Attributes:
        auc, balanced: attribute -> area under the curve, and balanced accuracy.
        trained: faces that a linear model was trained on; 0 where words alone decide.
        tested: faces.
    """

    auc: Mapping[str, float]
    balanced: Mapping[str, float]
    trained: int
    tested: int

    @property
    def mean_auc(self) -> float:
        """Over attributes."""
        return float(np.mean([*self.auc.values()]))

    @property
    def mean_balanced(self) -> float:
        """Over attributes."""
        return float(np.mean([*self.balanced.values()]))


@torch.inference_mode()
def vectors(
    network: Flip, data: Captioned, batch: int = 32, features: Tensor | None = None
) -> Floats:
    """(N, C) what the image network says of whole images, before it is projected.

    `features` as of `encoders.flip.evaluation.see`.
    """
    device, found = network.temp.device, []
    for rows in torch.arange(len(data)).split(batch):
        shown = data.images(rows) if features is None else features[rows].float()
        tokens = network.image_tokens(shown.to(device))
        found.append(tokens[:, 0].float().cpu())
    return torch.cat(found).double().numpy()


def probe(
    network: Flip,
    facts: FaceFacts,
    train: Captioned,
    test: Captioned,
    share: float = 1.0,
    names: Sequence[str] | None = None,
    features: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Probe:
    """A linear model of each attribute on a network's vectors.

    Args:
        network: in eval mode; it is not changed.
        facts: attributes of the faces.
        train, test: images of different faces.
        share: of the images to train on; which ones follows from their names.
        names: of attributes; None for all that are known.
        features: of all images to train on, and of those of the test, as of
            `encoders.flip.evaluation.see`.

    Raises:
        UsageError: no attribute has five faces with and without it on both sides.
    """
    learnt, asked_of = features
    if share < 1:
        order = train.face_keys().argsort().tolist()
        rows = sorted(order[: max(round(share * len(train)), 1)])
        train, learnt = train.select(rows), None if learnt is None else learnt[rows]
    wanted = facts.names() if names is None else names
    seen = vectors(network, train, features=learnt)
    told = vectors(network, test, features=asked_of)
    scale = StandardScaler().fit(seen)
    seen, told = scale.transform(seen), scale.transform(told)
    truth, asked = facts.matrix(train.names, wanted), facts.matrix(test.names, wanted)
    auc, balanced = {}, {}
    for k, name in enumerate(wanted):
        known, judged = ~np.isnan(truth[:, k]), ~np.isnan(asked[:, k])
        yes, answers = truth[known, k] > 0.5, asked[judged, k] > 0.5
        fewest = min(int(v) for side in (yes, answers) for v in (side.sum(), (~side).sum()))
        if fewest < LEAST:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=0.05, class_weight="balanced", max_iter=300)
            model.fit(seen[known], yes)
        auc[name] = float(roc_auc_score(answers, model.decision_function(told[judged])))
        balanced[name] = float(balanced_accuracy_score(answers, model.predict(told[judged])))
    if not auc:
        raise UsageError(
            f"no attribute has {LEAST} faces with it and {LEAST} without it in both "
            f"{len(train)} images to train on and {len(test)} to test; give more images"
        )
    return Probe(auc, balanced, len(train), len(test))


@torch.inference_mode()
def zero_shot(network: Flip, tokens: Tokens, facts: FaceFacts, test: Captioned) -> Probe:
    """Attributes by words: an image has one if it is nearer to its words than to their opposite.

    Raises:
        UsageError: as `probe`.
    """
    names = [n for n in facts.names() if n in PROMPTS]
    asked = facts.matrix(test.names, names)
    images = []
    for rows in torch.arange(len(test)).split(32):
        seen = network.image_tokens(test.images(rows).to(network.temp.device))
        images.append(network.image_vectors(seen).cpu())
    every = torch.cat(images)
    auc, balanced = {}, {}
    for k, name in enumerate(names):
        judged = ~np.isnan(asked[:, k])
        answers = asked[judged, k] > 0.5
        if min(int(answers.sum()), int((~answers).sum())) < LEAST:
            continue
        ids, mask = tokens(list(PROMPTS[name]), network.config.length)
        words = network.text_vectors(ids.to(network.temp.device), mask.to(network.temp.device))
        near = (every @ words.cpu().T).numpy()
        score = (near[:, 0] - near[:, 1])[judged]
        auc[name] = float(roc_auc_score(answers, score))
        balanced[name] = float(balanced_accuracy_score(answers, score > 0))
    if not auc:
        raise UsageError(
            f"no attribute has {LEAST} faces with it and {LEAST} without it among {len(test)} "
            "images; give more"
        )
    return Probe(auc, balanced, 0, len(test))
