"""Random checkpoints in the publishers' own formats: their names, shapes and containers, not their values.

The large tensors are views into one small store of random numbers, which keeps the files of large networks small:
the rows of a matrix overlap, but are far from equal.
"""

import math
import re
import zlib

import torch
from segment_anything import sam_model_registry

_STORE = 0.03 * torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
_ROW_STEP = 17


def values(name, shape):
    """A random tensor for a layer's name, another one for each name."""
    count = math.prod(shape)
    columns = count // shape[0] if len(shape) > 1 and shape[0] > 1 else shape[-1] if shape else 1
    rows = count // columns
    start = zlib.crc32(name.encode()) % (len(_STORE) - _ROW_STEP * (rows - 1) - columns)
    tensor = _STORE.as_strided((rows, columns), (_ROW_STEP, 1), start).view(shape)
    if re.search(r"norm\w*\.weight$|^neck\.[13]\.weight$", name):
        return 1 + 3 * tensor
    if re.search(r"gamma|lambda", name):
        return 0.5 + 3 * tensor
    return 10 * tensor if re.search(r"pos|token|embedding", name) else tensor


def of_shapes(shapes, prefix=""):
    """A state dictionary for names and shapes, the names with a prefix."""
    return {prefix + name: values(name, shape) for name, shape in shapes.items()}


def sam(architecture="vit_b"):
    """SAM's whole checkpoint, as published: image encoder, prompt encoder and mask decoder."""
    with torch.device("meta"):
        model = sam_model_registry[architecture]()
    return of_shapes({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})


def sam_encoder(architecture="vit_b", prefix=""):
    """The image encoder alone, with other values than `sam` has."""
    start = "image_encoder."
    encoder = {name.removeprefix(start): t for name, t in sam(architecture).items() if name.startswith(start)}
    return {prefix + name: values(f"other {name}", tuple(tensor.shape)) for name, tensor in encoder.items()}


def blocks(width, depth, names, mlp=4):
    """Names and shapes of transformer blocks, from the names of their layers in one of them ("blocks.{}.norm1")."""
    shapes = {}
    for index in range(depth):
        for layer, kind in names.items():
            outputs, inputs = {
                "norm": (width, None),
                "qkv": (3 * width, width),
                "square": (width, width),
                "up": (mlp * width, width),
                "down": (width, mlp * width),
            }[kind]
            name = layer.format(index)
            shapes[f"{name}.weight"] = (outputs,) if inputs is None else (outputs, inputs)
            shapes[f"{name}.bias"] = (outputs,)
    return shapes


TIMM_LAYERS = {
    "blocks.{}.norm1": "norm",
    "blocks.{}.attn.qkv": "qkv",
    "blocks.{}.attn.proj": "square",
    "blocks.{}.norm2": "norm",
    "blocks.{}.mlp.fc1": "up",
    "blocks.{}.mlp.fc2": "down",
}


def dinov2(width, depth=12, registers=False):
    """DINOv2's checkpoint, made for 37 x 37 tokens."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 37**2 + 1, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        **blocks(width, depth, TIMM_LAYERS),
        **{f"blocks.{i}.ls{j}.gamma": (width,) for i in range(depth) for j in (1, 2)},
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if registers:
        shapes["register_tokens"] = (1, 4, width)
    return of_shapes(shapes)


def dinov3(width, heads, depth=12):
    """DINOv3's checkpoint as Meta publishes it: keys without bias, by a mask; periods rounded to bfloat16."""
    shapes = {
        "cls_token": (1, 1, width),
        "storage_tokens": (1, 4, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        **blocks(width, depth, TIMM_LAYERS),
        **{f"blocks.{i}.ls{j}.gamma": (width,) for i in range(depth) for j in (1, 2)},
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    state = of_shapes(shapes)
    quarter = width // heads // 4
    state["rope_embed.periods"] = (100.0 ** (torch.arange(quarter) / quarter)).bfloat16().float()
    mask = torch.ones(3 * width)
    mask[width : 2 * width] = 0
    for index in range(depth):
        state[f"blocks.{index}.attn.qkv.bias"] = state[f"blocks.{index}.attn.qkv.bias"] * mask
        state[f"blocks.{index}.attn.qkv.bias_mask"] = mask
    return state


def biomedclip():
    """The checkpoint of open_clip: timm's tower behind "visual.trunk.", text encoder and projections beside it."""
    width = 768
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 14**2 + 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        **blocks(width, 12, TIMM_LAYERS),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    rest = {
        "visual.head.proj.weight": (512, width),
        "text.transformer.embeddings.word_embeddings.weight": (1000, width),
        "text.proj.0.weight": (640, width),
        "logit_scale": (),
    }
    return of_shapes(shapes, "visual.trunk.") | of_shapes(rest)


def mri_core():
    """MRI-CORE's checkpoint: the names of DINOv2's training, blocks in chunks, positions of 224 pixels, no neck."""
    width = 768
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 14**2 + 1, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        **blocks(width, 12, {name.replace("blocks.{}", "blocks.0.{}"): kind for name, kind in TIMM_LAYERS.items()}),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    return {"teacher": of_shapes(shapes, "backbone.") | of_shapes({"dino_head.mlp.0.weight": (2048, width)})}


def as_hugging_face(state, rules):
    """Rename a state dictionary by (pattern, new name); joined queries, keys and values are taken apart."""
    result = {}
    for name, tensor in state.items():
        parts = {name: tensor}
        if ".attn.qkv." in name:
            parts = {name.replace("qkv", part): t for part, t in zip("qkv", tensor.chunk(3), strict=True)}
        for part, value in parts.items():
            for pattern, new in rules:
                match = re.fullmatch(pattern, part)
                if match:
                    result[match.expand(new)] = value.clone().contiguous()
    return result


# Outputs and inputs of the convolutions of anatomix by their number; those of anatomix-dev are twice as wide, and
# one level deeper.
ANATOMIX = {
    **{0: (16, 1), 3: (16, 16), 6: (16, 16), 10: (32, 16), 13: (32, 32), 17: (64, 32), 20: (64, 64)},
    **{24: (128, 64), 27: (128, 128), 31: (256, 128), 34: (256, 256), 38: (128, 384), 41: (128, 128)},
    **{45: (64, 192), 48: (64, 64), 52: (32, 96), 55: (32, 32), 59: (16, 48), 62: (16, 16), 65: (16, 16)},
}
ANATOMIX_DEV = {
    **{0: (32, 1), 3: (32, 32), 6: (32, 32), 10: (64, 32), 13: (64, 64), 17: (128, 64), 20: (128, 128)},
    **{24: (256, 128), 27: (256, 256), 31: (512, 256), 34: (512, 512), 38: (1024, 512), 41: (1024, 1024)},
    **{45: (512, 1536), 48: (512, 512), 52: (256, 768), 55: (256, 256), 59: (128, 384), 62: (128, 128)},
    **{66: (64, 192), 69: (64, 64), 73: (32, 96), 76: (32, 32), 79: (32, 32)},
}


def anatomix(convolutions=None):
    """The checkpoint of anatomix, with batch normalisation, or of anatomix-dev, which has biases instead."""
    convolutions = convolutions or ANATOMIX
    state, last = {}, max(convolutions)
    for number, (outputs, inputs) in convolutions.items():
        name = f"model.{number}"
        state[f"{name}.weight"] = values(f"{name}.weight", (outputs, inputs, 3, 3, 3))
        if last == max(ANATOMIX_DEV):
            state[f"{name}.bias"] = values(f"{name}.bias", (outputs,))
        elif number < last:
            norm = f"model.{number + 1}"
            state |= of_shapes({f"{norm}.{part}": (outputs,) for part in ("bias", "running_mean")})
            state[f"{norm}.weight"] = 1 + 10 * values(f"{norm}.weight", (outputs,))
            state[f"{norm}.running_var"] = 0.2 + values(f"{norm}.running_var", (outputs,)).abs()
            state[f"{norm}.num_batches_tracked"] = torch.tensor(1000)
    return state
