"""Pillow's resampling and transformers' processors on made-up pictures, for pictures.json.

Made with Pillow 13.0.0 and transformers 5.23.0; the processors are those on Pillow, not the ones on torchvision.
Pillow 13 scales the columns first where it finds that cheaper; before, it always began with the lines, and so does
package vlm. Here the two passes are asked for one by one, and the processors get sizes where both give one result.
"""
import hashlib, json, os
import numpy as np, PIL
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))


def picture(w, h):
    y, x = np.mgrid[0:h, 0:w]
    return Image.fromarray(np.stack([(x * 7 + y * 13) % 256, (x * x + 3 * y) % 256, (x * y * 5 + 91 * (x % 2)) % 256], -1).astype(np.uint8))


resized = []
for w, h, tw, th in [(64, 64, 32, 32), (33, 97, 32, 32), (20, 30, 64, 48), (1, 1, 8, 8), (100, 7, 10, 20), (32, 32, 32, 32), (50, 32, 32, 32)]:
    for resample in (0, 1, 2, 3):
        data = np.asarray(picture(w, h).resize((tw, h), resample).resize((tw, th), resample)).tobytes()
        resized.append({"from": [w, h], "to": [tw, th], "resample": resample, "sha256": hashlib.sha256(data).hexdigest()})

from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

prepared = []
for name, processor in {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
    "clip, crop larger": CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 25, "width": 20}),
    "siglip": SiglipImageProcessorPil(size={"height": 20, "width": 28}),
}.items():
    config = json.loads(processor.to_json_string())
    config = {k: v for k, v in config.items() if k in ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")}
    for w, h in [(40, 30), (24, 24), (200, 9), (90, 50), (60, 60)]:
        if name == "siglip" and w == h:
            continue
        pixels = np.asarray(processor(picture(w, h), return_tensors="np")["pixel_values"])[0]
        flat = pixels.reshape(-1).astype(np.float64)
        prepared.append({"name": name, "config": config, "from": [w, h], "shape": list(pixels.shape), "sum": float(flat.sum()), "weighted": float((flat * (np.arange(flat.size) % 97)).sum())})
json.dump({"pillow": PIL.__version__, "resized": resized, "prepared": prepared}, open(here + "/pictures.json", "w"), indent=1)
print(len(resized), len(prepared))
