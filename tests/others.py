"""How other libraries answer with a checkpoint: each label's score for a photo."""

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config


def timm_scores(name: str, photo: Image.Image) -> dict[str, float]:
    """As timm answers; the name begins with local-dir: or hf-hub:."""
    model = timm.create_model(name, pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    with torch.inference_mode():
        scores = model(transform(photo)[None]).softmax(dim=1)[0].tolist()
    return dict(zip(model.pretrained_cfg["label_names"], scores, strict=True))


def transformers_scores(name: str, photo: Image.Image, count: int, **how: str) -> dict[str, float]:
    """As transformers answers, the best `count` labels; `how` may name a revision."""
    from transformers import pipeline  # slow to import, and not every process that is here asks

    classify = pipeline("image-classification", model=name, **how)
    return {answer["label"]: answer["score"] for answer in classify(photo, top_k=count)}
