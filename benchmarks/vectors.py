"""explain_vector beside a plain loop over scikit-learn, on a table; and its peak memory."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.memory import peak_memory
from benchmarks.settings import Row, Settings
from benchmarks.tables import digits, markdown, mebibytes, milliseconds
from torchlime import explain_vector
from torchlime.noise import Gaussian
from torchlime.surrogates import Ridge

SCALE = 0.1
LOOP = "loop over scikit-learn"
MODELS = ("logistic regression", "random forest")
CAPTION = (
    "Rows of scikit-learn's breast-cancer table, standardised, with σ = 0.1 and Ridge(1); all B"
    " rows in one call of explain_vector. The loop is given the same samples. For each row, it"
    " scores them by predict_proba and fits scikit-learn's Ridge. Ratios are its time over that of"
    " the row. *Apart* is the largest difference of a coefficient, over the largest coefficient."
    " Peak memory is what a call takes above what was held before it; the noise is 4·N·F bytes of"
    " it."
)
Explain = Callable[[], Tensor]  # coefficients [B,F] of class 1


def run(settings: Settings) -> list[Row]:
    batches, samples = ((1, 3), 64) if settings.quick else ((1, 100), 1000)
    rows = []
    for name, batch in itertools.product(MODELS, batches):
        settings.say(f"vectors: {name}, B={batch}")
        sides = contenders(name, batch, samples, settings.device)
        readings = settings.timer()(sides)
        expected = sides[LOOP]()
        for side, explain in sides.items():
            apart = (explain() - expected).abs().max() / expected.abs().max()
            rows.append({
                "model": name,
                "implementation": side,
                "batch": batch,
                "samples": samples,
                "features": expected.shape[1],
                "dtype": "float64",
                "seconds": readings[side].record(),
                "loop_over": readings[LOOP].over(readings[side]).record(),
                "apart": apart.item(),
            })  # fmt: skip
    features, samples = (20, 50) if settings.quick else (1000, 100_000)
    settings.say(f"vectors: memory at F={features}, N={samples}")
    call = partial(large, str(settings.device), features, samples)
    rows.append({
        "model": "tanh of 3 sums",
        "implementation": "torchlime",
        "batch": 1,
        "samples": samples,
        "features": features,
        "dtype": "float32",
        "peak_bytes": peak_memory(settings.device, call),
        "noise_bytes": 4 * features * samples,
    })  # fmt: skip
    return rows


def contenders(name: str, batch: int, samples: int, device: torch.device) -> dict[str, Explain]:
    from sklearn import datasets, ensemble, linear_model, preprocessing

    table, labels = datasets.load_breast_cancer(return_X_y=True)
    table = preprocessing.StandardScaler().fit_transform(table)
    models = {
        "logistic regression": linear_model.LogisticRegression(),
        "random forest": ensemble.RandomForestClassifier(random_state=0),
    }
    estimator = models[name].fit(table, labels)
    count = torch.tensor([table.shape[1]])
    noise = Gaussian()(count, table.shape[1], samples, seed=0)[0].double().numpy()
    x = torch.from_numpy(table[:batch]).to(device)

    def ours(model: Any) -> Explain:
        return lambda: explain_vector(
            model, x, 1, scale=SCALE, num_samples=samples, surrogate=Ridge(1.0)
        ).coefficients[:, 0].cpu()  # fmt: skip

    sides = {
        LOOP: lambda: torch.from_numpy(loop(estimator, table[:batch], noise)),
        "torchlime, the estimator": ours(estimator),
    }
    if name == "logistic regression":
        slopes = torch.from_numpy(estimator.coef_[0]).to(device)
        bias = float(estimator.intercept_[0])

        def in_torch(z: Tensor) -> Tensor:
            positive = (z @ slopes + bias).sigmoid()
            return torch.stack([1 - positive, positive], dim=1)

        sides["torchlime, the same in torch"] = ours(in_torch)
    return sides


def loop(estimator: Any, table: Any, noise: Any) -> Any:
    """What one writes without this library: coefficients [B,F] of class 1."""
    from sklearn.linear_model import Ridge

    width = 0.75 * math.sqrt(noise.shape[1])
    weights = np.exp(-(np.linalg.norm(noise, axis=1) ** 2) / (2 * width**2))
    rows = []
    for x in table:
        scores = estimator.predict_proba(x + SCALE * noise)[:, 1]
        rows.append(Ridge(1.0).fit(noise, scores, sample_weight=weights).coef_ / SCALE)
    return np.stack(rows)


def large(
    device: str, features: int, samples: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """(warm up, explain) of many features and samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(features, 3), nn.Tanh()).to(device)
    x = torch.randn(1, features, device=device)
    return (
        lambda: explain_vector(model, x, 0, num_samples=2 * features),
        lambda: explain_vector(model, x, 0, num_samples=samples),
    )


def table(rows: list[Row]) -> str:
    head = ["", "model", "B", "N", "F", "ms", "loop / this", "apart", "peak, MiB", "noise, MiB"]
    return markdown(
        head,
        [
            [
                row["implementation"],
                row["model"],
                row["batch"],
                row["samples"],
                row["features"],
                milliseconds(row["seconds"]) if "seconds" in row else "",
                ratio(row["loop_over"]) if "loop_over" in row else "",
                f"{row['apart']:.0e}" if "apart" in row else "",
                mebibytes(row["peak_bytes"]) if "peak_bytes" in row else "",
                mebibytes(row["noise_bytes"]) if "noise_bytes" in row else "",
            ]
            for row in rows
        ],
    )


def ratio(reading: dict[str, Any]) -> str:
    return f"{digits(reading['median'])} ± {digits(reading['spread'])}"
