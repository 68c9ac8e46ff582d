"""Things to keep: a small report, a finished run with a real adapter's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig
from safetensors.numpy import save_file

ANSWERED = {"seed": 0, "temperature": 0.0, "guidance": 1.0, "max_new_tokens": 64}


def make_report(**changes: Any) -> dict:
    """What `measure_model` might have said of one task: two layers, two samples."""
    part = {
        "mean": [0.25, 0.5],
        "std": [0.1, 0.0],
        "spread": 0.05,
        "n": 2,
        "left_out": [],
        "definition": "strict",
        "model": "tiny-janus",
        "sampling": ANSWERED,
        "intensities": [[0.2, 0.5], [0.3, 0.5]],
    }
    return {"model": "tiny-janus", "seed": 7, "samples": 2, "understanding": None, "generation": part, **changes}


def add_adapter(run: Path, **settings: Any) -> None:
    """A LoRA adapter as PEFT saves it, in a run's folder."""
    folder = run / "adapter"
    folder.mkdir()
    plain = LoraConfig(r=4, lora_alpha=8, base_model_name_or_path="tiny-janus", inference_mode=True).to_dict()
    plain |= {"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(plain))
    weights = {"base_model.model.layers.0.q_proj.lora_A.weight": np.arange(8, dtype=np.float32)}
    save_file(weights, str(folder / "adapter_model.safetensors"))
    (folder / "aia_lens.json").write_text(json.dumps({"model": "tiny-janus", "revision": "r", "aia": True}))
