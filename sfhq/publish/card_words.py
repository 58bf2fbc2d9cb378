"""What every data card says: what known networks were trained on, uses, limits."""

from __future__ import annotations

FFHQ = (
    "FFHQ: 70,000 photographs of people from Flickr, each under a licence of its own (CC BY, CC "
    "BY-NC, public domain, US government works), the dataset under CC BY-NC-SA 4.0. The people "
    "in the photographs were not asked; its authors take photographs down on request"
)
# Network -> what it was trained on.
TRAINED_ON = {
    "stylegan2-ffhq-1024": FFHQ,
    "stylegan2-ffhq-1024-tf": FFHQ,
    "stylegan2-ffhq-1024-pt": FFHQ,
    "e4e-ffhq": FFHQ,
    "sfhq's embedded generator": (
        "1,721 photos of people who do not exist, under MIT: curated StyleGAN2 photographs of "
        "SFHQ, whose generator was trained on FFHQ, and text-to-image faces and portraits"
    ),
    "sfhq's embedded e4e": (
        "the same photos as the embedded generator and rendered heads in art styles (CC0-1.0); "
        "dlib's recognition network said what to keep of a person"
    ),
    "sfhq's label network": (
        "2,424 rendered heads (CC0-1.0) and 2,264 photos of people who do not exist (MIT); "
        "MediaPipe's networks (Apache-2.0) were its teachers"
    ),
    "sfhq's FLIP": (
        "2,860 captioned rendered heads (CC0-1.0), 1,147 text-to-image faces with search queries "
        "and 283 with prompts (MIT), on top of sfhq's label network"
    ),
    "dlib-68": "iBUG 300-W: photographs of people, for research only",
    "dlib's CNN detector": "photographs of faces that dlib's author collected",
    "dlib's recognition network": "about 3 million photographs of faces that its author collected",
    "dlib-face": "about 3 million photographs of faces that dlib's author collected",
    "bisenet": "CelebAMask-HQ: photographs of celebrities, for non-commercial research only",
    "clip-vit-l-14-336": "400 million pictures and texts of the web, which were not published",
}
INTENDED = (
    "Training and testing of face detection, landmarks, parsing and attribute models on synthetic "
    "photos; study of generators, of their biases and of the detection of synthetic media."
)
OUT_OF_SCOPE = (
    "Identification or verification of real people.",
    "Categorisation of real people by sex, age, skin tone, ancestry or emotion. Who uses emotion "
    "recognition or biometric categorisation on people has to tell them so (EU AI Act, Article "
    "50(3)).",
    "Passing the photos off as photographs of people who exist, or removing the marks that say "
    "that they are synthetic.",
    "Conclusions about groups of people: labels are how pictures look to a network.",
)
LIMITS = (
    "All labels are predictions of networks, or numbers of a renderer; the section on label errors "
    "says what people checked.",
    "Age, sex and skin tone are predicted looks of synthetic pictures. No one of these persons has "
    "them.",
    "Biases of the generator's and of the label networks' training data remain; see the counts.",
    "That nobody in particular is shown is not proven: generators can come close to people in "
    "their training data. The audit of nearest real faces says how close, where one was made.",
)
