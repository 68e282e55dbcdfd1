"""The weights of the encoders: official file, address, licence and citation. Does not import torch.

The facts are from the publishers' repositories; what a publisher does not state is None, and what could not be
checked is in `note`. Sizes are as reported for the publishers' servers, for display only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import WeightsError

Access = Literal["open", "browser", "login"]


@dataclass(frozen=True)
class WeightsEntry:
    """One official weight file.

    Attributes:
        name: its name for users and encoders.
        title: the network.
        filename: the publisher's file name.
        url: of the file if `access` is open, else of the page to open in a browser.
        license: short name of the licence of the weights.
        license_url: address of its text.
        citation: the paper to cite.
        size_bytes: size of the file, None if unknown.
        checksum: "algorithm:leading hexadecimal digits" as published, None if there is none.
        access: open (downloadable), browser (only with a browser), login (the publisher grants access on request).
        needs_consent: the licence restricts use and must be accepted once.
        other_filenames: file names of the same weights in other official formats.
        note: what was not checked, and other remarks.
    """

    name: str
    title: str
    filename: str
    url: str
    license: str
    license_url: str
    citation: str
    size_bytes: int | None = None
    checksum: str | None = None
    access: Access = "open"
    needs_consent: bool = False
    other_filenames: tuple[str, ...] = ()
    note: str = ""


def catalogue() -> dict[str, WeightsEntry]:
    """Return all entries by name."""
    return {entry.name: entry for entry in (*_sam(), *_medical(), *_anatomix(), *_dinov2(), *_dinov3())}


def weights_entry(name: str | WeightsEntry, among: Mapping[str, WeightsEntry] | None = None) -> WeightsEntry:
    """Return the entry of a name; an entry is returned as it is.

    Raises:
        WeightsError: there is no entry of that name.
    """
    if isinstance(name, WeightsEntry):
        return name
    known = catalogue() if among is None else among
    if name not in known:
        msg = f"There are no weights named '{name}'; choose one of: {', '.join(known)}."
        raise WeightsError(msg)
    return known[name]


def _sam() -> list[WeightsEntry]:
    """SAM's file names contain the first six digits of the MD5 (not of the SHA-256)."""
    files = {"b": ("01ec64", 375042383), "l": ("0b3195", 1249524607), "h": ("4b8939", 2564550879)}
    return [
        WeightsEntry(
            name=f"sam-vit-{size}",
            title=f"SAM ViT-{size.upper()}/16",
            filename=f"sam_vit_{size}_{digits}.pth",
            url=f"https://dl.fbaipublicfiles.com/segment_anything/sam_vit_{size}_{digits}.pth",
            license="Apache-2.0",
            license_url="https://github.com/facebookresearch/segment-anything/blob/main/LICENSE",
            citation="Kirillov et al., ICCV 2023",
            size_bytes=size_bytes,
            checksum=f"md5:{digits}",
        )
        for size, (digits, size_bytes) in files.items()
    ]


def _medical() -> list[WeightsEntry]:
    return [
        WeightsEntry(
            name="medsam",
            title="MedSAM ViT-B/16",
            filename="medsam_vit_b.pth",
            url="https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
            license="Apache-2.0",
            license_url="https://github.com/bowang-lab/MedSAM/blob/main/LICENSE",
            citation="Ma et al., Nature Communications 2024",
            checksum="md5:3bb6db55bd0c9ca30b61248bca72f8d6",
            note="the authors' page links to a Google Drive folder; address and MD5 of this Zenodo copy are "
            "as reported by other projects, not checked on its page; its licence is reported as CC-BY-4.0",
        ),
        WeightsEntry(
            name="sslsam",
            title="SSLSAM, SAM ViT-B/16 encoder pretrained further on MRI",
            filename="sslsam.pth",
            url="https://drive.google.com/drive/folders/1JAoy-Mh5QgxXsjWtQhMjOX16dN1kytLQ",
            license="Apache-2.0",
            license_url="https://github.com/mazurowski-lab/finetune-SAM/blob/main/LICENSE",
            citation="Gu et al., arXiv:2404.09957, 2024",
            access="browser",
            note="the licence is that of the authors' repository; loaded on top of the weights 'sam-vit-b'",
        ),
        WeightsEntry(
            name="mri-core",
            title="MRI-CORE ViT-B/16",
            filename="MRI_CORE_vitb.pth",
            url="https://drive.google.com/file/d/1nPkTI3H0vsujlzwY8jxjKwAbOCTJv4yW/view",
            license="Apache-2.0",
            license_url="https://github.com/mazurowski-lab/mri_foundation",
            citation="Dong et al., arXiv:2506.12186, 2025",
            access="browser",
            other_filenames=("mri_foundation.pth", "teacher_checkpoint.pth"),
        ),
        WeightsEntry(
            name="medclip-sam",
            title="MedCLIP-SAMv2, fine-tuned BiomedCLIP ViT-B/16",
            filename="pytorch_model.bin",
            url="https://drive.google.com/file/d/1jjnZabUlc9_gpcP0d2nz_GNS-EGX0lq5/view",
            license="MIT",
            license_url="https://github.com/HealthX-Lab/MedCLIP-SAMv2/blob/main/LICENSE",
            citation="Koleilat et al., arXiv:2409.19483, 2025",
            access="browser",
            note="the licence is that of the authors' repository",
        ),
    ]


def _anatomix() -> list[WeightsEntry]:
    return [
        WeightsEntry(
            name=name,
            title=f"{name}, 3D U-Net with {millions} million parameters",
            filename=f"{name}.pth",
            url=f"https://huggingface.co/neeldey/anatomix/resolve/main/{name}.pth",
            license="MIT",
            license_url="https://github.com/neel-dey/anatomix/blob/main/LICENSE",
            citation="Dey et al., ICLR 2025",
            note="the licence is that of the authors' repository; the address is from the authors' code, not checked",
        )
        for name, millions in (("anatomix", 5.9), ("anatomix-dev", 94))
    ]


def _dinov2() -> list[WeightsEntry]:
    sizes_bytes = {"s": (88283115, None), "b": (346378731, None), "l": (1217586395, 1217607321)}
    return [
        WeightsEntry(
            name=f"dinov2-vit{size}14{suffix}",
            title=f"DINOv2 ViT-{size.upper()}/14{registers}",
            filename=f"dinov2_vit{size}14{infix}_pretrain.pth",
            url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{size}14/dinov2_vit{size}14{infix}_pretrain.pth",
            license="Apache-2.0",
            license_url="https://github.com/facebookresearch/dinov2/blob/main/LICENSE",
            citation=f"Oquab et al., TMLR 2024{added}",
            size_bytes=size_bytes,
        )
        for size, both in sizes_bytes.items()
        for size_bytes, (suffix, infix, registers, added) in zip(
            both, (("", "", "", ""), ("-reg", "_reg4", " with registers", "; Darcet et al., ICLR 2024")), strict=True
        )
    ]


def _dinov3() -> list[WeightsEntry]:
    """The names contain the first eight digits of the SHA-256, as checked by `torch.hub`."""
    files = {"s16": "08c60483", "b16": "73cec8be"}
    return [
        WeightsEntry(
            name=f"dinov3-vit{size}",
            title=f"DINOv3 ViT-{size[0].upper()}/16",
            filename=f"dinov3_vit{size}_pretrain_lvd1689m-{digits}.pth",
            url="https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/",
            license="DINOv3 License",
            license_url="https://github.com/facebookresearch/dinov3/blob/main/LICENSE.md",
            citation="Siméoni et al., arXiv:2508.10104, 2025",
            checksum=f"sha256:{digits}",
            access="login",
            needs_consent=True,
            other_filenames=("model.safetensors",),
        )
        for size, digits in files.items()
    ]
