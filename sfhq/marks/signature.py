"""Signed manifests of the C2PA: who made an image, how, and whether it was changed since.

Needs c2pa-python (the extra `c2pa`). Nothing here asks the network: no time stamp is fetched and no
remote manifest is followed. A signature covers the whole file, so it is the last thing written.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sfhq.errors import MissingExtra, UsageError
from sfhq.marks.xmp import SOURCE_TYPE_BASE, Origin

MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
# A file without any of these has no manifest; c2pa-python is asked about the others only.
TRACES = (b"c2pa", b"caBX", b"C2PA")
USES = tuple(
    f"cawg.{use}"
    for use in ("ai_generative_training", "ai_inference", "ai_training", "data_mining")
)
# No thumbnail: it would add 500 kB to every image.
SETTINGS: dict[str, dict[str, Any]] = {
    "verify": {
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
        "verify_after_sign": False,
        "verify_trust": False,
    },
    "builder": {"thumbnail": {"enabled": False}},
}
Mining = Literal["allowed", "notAllowed"]


@dataclass(frozen=True)
class Signer:
    """Signs images with a certificate of the user's.

    Attributes:
        certificates: PEM, the signer's first and then those that vouch for it.
        key: PEM, its private key, without a password.
        algorithm: "es256", "es384", "es512", "ps256", "ps384", "ps512" or "ed25519".
        mining: whether training and data mining are allowed, as the entry `cawg.training-mining`.
    """

    certificates: bytes
    key: bytes
    algorithm: str
    mining: Mining = "allowed"

    @classmethod
    def load(cls, certificates: Path, key: Path, mining: Mining = "allowed") -> Signer:
        """The signer of two PEM files.

        Raises:
            MissingExtra: c2pa-python is not installed.
            UsageError: a file cannot be read, or they do not belong together.
        """
        _c2pa()
        found = []
        for path, what in ((certificates, "certificates"), (key, "a private key")):
            try:
                found.append(path.read_bytes())
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise UsageError(f"{path}: {reason}; wanted {what} as a PEM file") from None
        return cls(found[0], found[1], _algorithm(certificates, key, *found), mining)

    def sign(self, data: bytes, file_format: str, origin: Origin) -> bytes:
        """An image file with a manifest that says how it was made.

        Args:
            data: a complete file, its XMP packet included.
            file_format: "JPEG", "PNG" or "WEBP".
            origin: goes to the action `c2pa.created`.

        Raises:
            UsageError: the certificate is not one that C2PA allows.
        """
        c2pa = _c2pa()
        info = c2pa.C2paSignerInfo(
            alg=self.algorithm.encode(),
            sign_cert=self.certificates,
            private_key=self.key,
            ta_url=b"",
        )
        info.ta_url = None  # no time stamp: it would need the network
        target = io.BytesIO()
        manifest = json.dumps(_manifest(origin, self.mining))
        try:
            with (
                c2pa.Context.from_dict(SETTINGS) as context,
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(manifest, context=context) as builder,
            ):
                builder.sign(signer, MIME[file_format], io.BytesIO(data), target)
        except c2pa.C2paError as error:
            raise UsageError(
                f"cannot sign ({' '.join(str(error).split())[:200]}); wanted a certificate for "
                "signing content: see docs/publish.md"
            ) from None
        return target.getvalue()


def _manifest(origin: Origin, mining: Mining) -> dict[str, Any]:
    agent = {"name": origin.system or "sfhq", "version": origin.version or "unknown"}
    action = {
        "action": "c2pa.created",
        "softwareAgent": agent,
        "digitalSourceType": SOURCE_TYPE_BASE + origin.source_type,
    }
    entries = {use: {"use": mining} for use in USES}
    return {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": "cawg.training-mining", "data": {"entries": entries}},
        ],
    }


@dataclass(frozen=True)
class Manifest:
    """What the signed manifest of a file says.

    Attributes:
        state: "valid" (the file is as it was signed), "trusted" (also by someone on a trust list),
            or "invalid".
        signer: name in the certificate; anybody can make one of any name.
        source_type: of the action `c2pa.created`; empty where it has none.
        problems: codes of C2PA for what does not hold.
    """

    state: Literal["trusted", "valid", "invalid"]
    signer: str = ""
    source_type: str = ""
    problems: tuple[str, ...] = ()


def may_have_manifest(data: bytes) -> bool:
    """Whether a file can have a manifest; reads no further than that."""
    return any(trace in data for trace in TRACES)


def read_manifest(data: bytes, file_format: str, trust: str = "") -> Manifest | None:
    """The manifest of an image file, checked; None where it has none.

    Args:
        data: of the file, from anybody.
        file_format: "JPEG", "PNG" or "WEBP".
        trust: PEM of those who may vouch for signers; without any none is trusted.

    Raises:
        MissingExtra: the file seems to have one, and c2pa-python is not installed.
    """
    if file_format not in MIME or not may_have_manifest(data):
        return None
    c2pa = _c2pa()
    settings: dict[str, Any] = dict(SETTINGS)
    if trust:
        settings["verify"] = {**SETTINGS["verify"], "verify_trust": True}
        settings["trust"] = {"user_anchors": trust}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(MIME[file_format], io.BytesIO(data), context=context) as reader,
        ):
            found = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, ValueError) as error:
        return Manifest("invalid", problems=(" ".join(str(error).split())[:200],))
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    failures = found.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    state = str(found.get("validation_state", "Invalid")).lower()
    return Manifest(
        state if state in ("trusted", "valid") else "invalid",  # type: ignore[arg-type]
        str(active.get("signature_info", {}).get("issuer", "")),
        _source_type(active),
        tuple(sorted({str(one.get("code", "")) for one in failures})),
    )


def _source_type(manifest: dict[str, Any]) -> str:
    for assertion in manifest.get("assertions", []):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in assertion.get("data", {}).get("actions", []):
                if action.get("digitalSourceType"):
                    return str(action["digitalSourceType"]).removeprefix(SOURCE_TYPE_BASE)
    return ""


def _algorithm(certificates: Path, key: Path, chain: bytes, secret: bytes) -> str:
    """The algorithm of a key, once it is known to belong to the first certificate."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise UsageError(f"{certificates}: no certificate; wanted a chain as a PEM file") from None
    try:
        found = load_pem_private_key(secret, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(
            f"{key}: no private key that can be read; wanted one as a PEM file without a password"
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if found.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        raise UsageError(f"{key}: does not belong to the first certificate of {certificates}")
    if isinstance(found, ec.EllipticCurvePrivateKey):
        named = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if found.curve.name in named:
            return named[found.curve.name]
    if isinstance(found, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(found, rsa.RSAPrivateKey):
        return "ps256"
    raise UsageError(f"{key}: a kind of key that C2PA does not allow; wanted EC, Ed25519 or RSA")


def _c2pa() -> Any:
    try:
        import c2pa
    except ImportError:
        raise MissingExtra("a C2PA manifest", "c2pa-python", "c2pa") from None
    return c2pa
