"""Loads a model: dtype and device are chosen once, here, and the reason is logged.

Knows `from_pretrained` and digests; does not know any family's tokens.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor, BitsAndBytesConfig, PreTrainedModel, ProcessorMixin
from transformers.utils.logging import set_tqdm_hook

from aia import probe
from backend.cores import count_cores
from backend.interface import CancelFlag, Cancelled, UserError
from backend.models.specs import ModelSpec, Precision

logger = logging.getLogger(__name__)


_PIECE_BYTES = 2**24
# Of a layer in 4 bit: on processors with AVX-512 for bfloat16, bitsandbytes packs it anew and computes in bfloat16.
# That fails for widths that are no multiple of its blocks, and gives other numbers than other machines do.
NEW_PROCESSORS = "support_avx512bf16_for_cpu"
_WHAT_DETERMINES_RESULTS = ("*.safetensors", "config.json", "*processor*.json", "tokenizer*.json", "*.jinja")


def choose_device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """bfloat16 on a GPU that has it, float16 on an older one, float32 on a CPU."""
    if torch.cuda.is_available():
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        device, reason = torch.device("cuda"), "a GPU is present"
    else:
        device, dtype, reason = torch.device("cpu"), torch.float32, "no GPU is present"
        if "OMP_NUM_THREADS" not in os.environ:
            # A core stays free for the page: two threads on two cores made a drawing take twice as long.
            torch.set_num_threads(max(1, count_cores() - 1))
    logger.info("using %s on %s: %s", str(dtype).removeprefix("torch."), device, reason)
    return device, dtype


@contextmanager
def interruptible(cancel: CancelFlag | None) -> Iterator[None]:
    """Let a flag end the loading of weights in this thread, between two tensors: raises `Cancelled` out of it."""
    if cancel is None:
        yield
        return
    thread = threading.get_ident()

    def watched(factory: Callable[..., Any], args: tuple, settings: dict) -> Any:
        bar = factory(*args, **settings)
        return _looking_up(bar, cancel) if threading.get_ident() == thread and args else bar

    before = set_tqdm_hook(watched)
    try:
        yield
    finally:
        set_tqdm_hook(before)


def _looking_up(items: Iterable, cancel: CancelFlag) -> Iterator:
    """The same items, with a look at the flag before each."""
    for item in items:
        if cancel.is_set():
            raise Cancelled
        yield item


def load_pretrained(
    spec: ModelSpec,
    model_class: type[PreTrainedModel],
    quantisation: BitsAndBytesConfig | None = None,
    load_processor: Callable[..., ProcessorMixin] = AutoProcessor.from_pretrained,
    language_config: str = "text_config",
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load weights and processor, ready for inference, the language model's attention under the probe.

    Raises `UserError` when the weights are not there or cannot be read.
    """
    device, dtype = choose_device_and_dtype()
    revision = spec.revision or None
    placing = {} if quantisation is None else {"quantization_config": quantisation, "device_map": {"": device}}
    try:
        processor = load_processor(spec.source, revision=revision)
        model = model_class.from_pretrained(
            spec.source, revision=revision, dtype=dtype, use_safetensors=True, low_cpu_mem_usage=True, **placing
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(
            f"The memory was full before {spec.name} was loaded; free some, or choose int8 or NF4 weights."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        logger.warning("loading %s failed: %s", spec.name, error)
        raise UserError(
            f"The weights of {spec.name} could not be read; fetch the whole repository again, or choose another model."
        ) from error
    if quantisation is None:
        model = model.to(device)
    for part in model.modules():
        if hasattr(part, NEW_PROCESSORS):
            setattr(part, NEW_PROCESSORS, False)
    model = model.eval().requires_grad_(False)
    probe.install(model, language_config)
    return model, processor


def quantisation_settings(precision: Precision, kept: tuple[str, ...]) -> BitsAndBytesConfig | None:
    """How the linear layers are stored, but for modules of these names (`kept`); None for full precision.

    NF4 quantises its own scales as well (double quantisation) and computes in the device's precision.
    """
    if precision == Precision.FULL:
        return None
    kept_anywhere = [rf"(.*\.)?{name}" for name in kept]  # a plain name is looked for at the root of the model only
    if precision == Precision.INT8:
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # else a line for every product on a CPU
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept_anywhere)
    _, dtype = choose_device_and_dtype()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept_anywhere,
    )


def name_precision(precision: Precision, dtype: torch.dtype) -> str:
    """What a capture's key says: "nf4", "int8", or the dtype of unquantised weights."""
    return str(dtype).removeprefix("torch.") if precision == Precision.FULL else precision.value


def weights_revision(spec: ModelSpec) -> str:
    """The hub commit, or for a folder the digest of its weights and settings: 12 hexadecimal digits."""
    folder = Path(spec.source)
    return spec.revision if spec.revision or not folder.is_dir() else folder_revision(folder)


def folder_revision(folder: Path) -> str:
    """The digest of a folder's weights and settings: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    files = (path for pattern in _WHAT_DETERMINES_RESULTS for path in folder.glob(pattern))
    for path in sorted(files):
        digest.update(path.name.encode())
        with path.open("rb") as file:  # in pieces: a file of a large model is larger than what may be free
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()[:12]
