"""Train the small StarDist3D of the tests: ``tests/data/volume-stardist``.

    python tools/train_volume_stardist.py [--out tests/data/volume-stardist] [--steps 1500]

It learns from one half (y < 30) of the synthetic volume of nuclei that the ``stardist``
package ships as its own test image (31 x 61 x 57 voxels; BSD-3-Clause), by the package's own
``StarDist3D.train``, with TensorFlow and one thread. Thresholds are chosen on that half too;
the other half is only scored, once, and the score written beside the weights. A network that
has seen half of one image is for tests, and for nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS="1")

import numpy as np
import tensorflow as tf
from stardist.data import test_image_nuclei_3d
from stardist.models import Config3D, StarDist3D

from opsef_bridge.files import write_json
from opsef_bridge.measure import match

CUT = 30
"""The first row of the half that is not learned from."""
SEED = 0
CONFIG = {
    "rays": 32,
    "grid": (1, 2, 2),
    "anisotropy": (2.0, 1.0, 1.0),
    "unet_n_filter_base": 10,
    "unet_batch_norm": True,
    "net_conv_after_unet": 32,
    "train_patch_size": (24, 24, 48),
    "train_batch_size": 2,
    "train_learning_rate": 1e-3,
    "train_loss_weights": (1, 0.2),
    "train_reduce_lr": None,
    "train_tensorboard": False,
}
STEPS_PER_EPOCH = 100
EMPTY = 0.1
"""Share of what is shown in training that has no objects."""


def main() -> None:
    """Parse the command line; train, choose thresholds, score, and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("tests/data/volume-stardist"))
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(SEED)
    (image, labels), (other, truth) = halves()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = fit(image, labels, options.steps, folder)
        thresholds = model.optimize_thresholds([image], [labels], nms_threshs=[0.2, 0.3, 0.4])
        copy_model(Path(folder) / model.name, options.out)
    seconds = round(time.perf_counter() - started)
    scores = {
        "learned half": score(model, image, labels),
        "other half": score(model, other, truth),
    }
    about = {
        "use": f"tests only: learned from {scores['learned half']['objects']} objects, or parts "
        "of them, of one synthetic image",
        "data": f"stardist.data.test_image_nuclei_3d (BSD-3-Clause), rows 0 to {CUT - 1}",
        "command": f"python tools/{Path(__file__).name} --steps {options.steps}",
        "seconds": seconds,
        "scores": scores,
    }
    write_json(options.out / "about.json", about)
    print(thresholds, *scores.items(), f"{seconds} s", sep="\n")


def halves() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return image and labels of both halves, each normalised by its own percentiles."""
    image, labels = test_image_nuclei_3d(return_mask=True)
    return [
        (normalised(image[:, rows]), labels[:, rows]) for rows in (slice(CUT), slice(CUT, None))
    ]


def normalised(image: np.ndarray) -> np.ndarray:
    """Map the 1st and 99.8th percentile to 0 and 1, as the engine does."""
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / (high - low)).astype(np.float32)


def fit(image: np.ndarray, labels: np.ndarray, steps: int, folder: str) -> StarDist3D:
    """Train on one volume; the learning rate falls along a cosine."""
    model = StarDist3D(Config3D(**CONFIG), "volume", folder)
    rate = tf.keras.optimizers.schedules.CosineDecay(CONFIG["train_learning_rate"], steps)
    model.prepare_for_training(tf.keras.optimizers.Adam(rate))
    # The last weights are kept, not the best of a validation: there is nothing to validate on.
    model.callbacks = []
    model.config.train_checkpoint = None
    model.train(
        [image],
        [labels],
        validation_data=([image], [labels]),
        augmenter=augmented,
        epochs=steps // STEPS_PER_EPOCH,
        steps_per_epoch=STEPS_PER_EPOCH,
        seed=SEED,
    )
    model.keras_model.save_weights(str(Path(folder) / model.name / "weights_best.h5"))
    return model


def augmented(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror along every axis at random; change light and noise a little; or show nothing."""
    if np.random.random() < EMPTY:
        nothing = np.random.uniform(0, 1) + np.zeros_like(image)
        noise = np.random.choice([0, 0.1]) * np.random.normal(size=image.shape)
        return (nothing + noise).astype(np.float32), np.zeros_like(labels)
    for axis in range(3):
        if np.random.random() < 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    gain, offset, noise = np.random.uniform((0.8, -0.1, 0), (1.25, 0.1, 0.05))
    image = image * gain + offset + np.random.normal(0, noise, image.shape)
    # The package's compiled code reads labels as if they were contiguous.
    return image.astype(np.float32), np.ascontiguousarray(labels)


def copy_model(source: Path, target: Path) -> None:
    """Copy what makes a model folder of StarDist."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "thresholds.json", "weights_best.h5"):
        shutil.copyfile(source / name, target / name)


def score(model: StarDist3D, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the number of objects and F1 at an IoU of 0.5 and 0.7."""
    found, _ = model.predict_instances(image)
    table = match(truth.astype(np.int32), found.astype(np.int32), (0.5, 0.7))
    half, more = table["f1"].round(4)
    return {
        "objects": len(np.unique(truth)) - 1,
        "found": len(np.unique(found)) - 1,
        "f1@0.5": half,
        "f1@0.7": more,
    }


if __name__ == "__main__":
    main()
