"""The XMP packet of an image: what IPTC's Photo Metadata 2025.1 has for media that an AI made."""

from __future__ import annotations

from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

SOURCE_TYPE_BASE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED = "trainedAlgorithmicMedia"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
RENDERED = "algorithmicMedia"
SYNTHETIC = (TRAINED, COMPOSITE, RENDERED)
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# Our names of the properties -> IPTC's, in the order in which they are written.
PROPERTIES = {
    "source_type": "DigitalSourceType",
    "system": "AISystemUsed",
    "version": "AISystemVersionUsed",
    "prompt": "AIPromptInformation",
}
LONGEST, SHORT = 10_000, 200  # characters of a prompt, and of another value; a JPEG has room for
# a packet of 65,502 bytes
MOST_PACKET = 2**20  # bytes of a packet that is read


@dataclass(frozen=True)
class Origin:
    """What an image says of the AI that made it.

    Attributes:
        source_type: last part of the IPTC digital source type.
        system: name of the AI system or model.
        version: of that system.
        prompt: what it was given to make the image; empty where there was no prompt.
    """

    source_type: str = TRAINED
    system: str = ""
    version: str = ""
    prompt: str = ""


def packet(origin: Origin) -> bytes:
    """The XMP packet that states an image's origin; the same values give the same bytes.

    Control characters are left out, and long values are cut.
    """
    values = {ours: str(getattr(origin, ours)) for ours in PROPERTIES if getattr(origin, ours)}
    if origin.source_type:
        values["source_type"] = SOURCE_TYPE_BASE + origin.source_type
    written = " ".join(
        f"Iptc4xmpExt:{PROPERTIES[ours]}={quoteattr(_clean(ours, value), ENTITIES)}"
        for ours, value in values.items()
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}">'
        '<rdf:Description rdf:about="" '
        f'xmlns:Iptc4xmpExt="{IPTC}" '
        f"{written}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


ENTITIES = {"\n": "&#10;", "\t": "&#9;", '"': "&quot;"}  # a parser would make them spaces


def _clean(name: str, text: str) -> str:
    """Text that XML can hold, and that leaves room in a JPEG."""
    kept = "".join(c for c in text if c.isprintable() or c in "\n\t")
    return kept[: LONGEST if name == "prompt" else SHORT]


def read_packet(data: bytes) -> Origin | None:
    """The origin that an XMP packet states; None where it states none or cannot be read.

    Properties count as attributes and as elements, whichever prefix is used. Packets that declare
    entities are refused, so that none can grow while it is read.

    Args:
        data: of the packet, from anybody.
    """
    if len(data) > MOST_PACKET:
        return None
    found: dict[str, str] = {}
    ours = {f"{IPTC} {name}": key for key, name in PROPERTIES.items()}
    open_names: list[str] = []
    texts: list[str] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        open_names.append(name)
        texts.clear()
        for key, value in attributes.items():
            if key in ours:
                found.setdefault(ours[key], value)
            if key == f"{RDF} resource" and name in ours:
                found.setdefault(ours[name], value)

    def end(name: str) -> None:
        text = "".join(texts).strip()
        holder = next((ours[n] for n in reversed(open_names) if n in ours), None)
        if text and holder is not None:
            found.setdefault(holder, text)
        texts.clear()
        open_names.pop()

    def refuse(*_: object) -> None:
        raise ValueError("declares an entity")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = texts.append
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data.strip(b"\0 \r\n\t"), True)
    except (expat.ExpatError, ValueError):
        return None
    if not found:
        return None
    source_type = found.get("source_type", "")
    known = source_type.removeprefix(SOURCE_TYPE_BASE) if source_type else ""
    return Origin(known, *(found.get(key, "") for key in ("system", "version", "prompt")))
