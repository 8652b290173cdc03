"""Locks and lists on hosts, each answer written down from the documents before it was asked for.

T28 and T211 stand for the whole requirements of torch from PyPI. A package whose code is unknown is unknown, except
where the CUDA that it names needs a newer driver.
"""

from pathlib import Path

import pytest

from mlship.cuda.fit.fits import fit_lock
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.foreign import read_foreign_lock

AMD = "linux/amd64"
WHOLE = {
    "T26": "torch==2.6.0 nvidia-cuda-runtime-cu12==12.4.127 nvidia-cublas-cu12==12.4.5.8",
    "T28": "torch==2.8.0 nvidia-cuda-runtime-cu12==12.8.90 nvidia-cublas-cu12==12.8.4.1 nvidia-cudnn-cu12==9.10.2.21",
    "T211": "torch==2.11.0 cuda-toolkit==13.0.2 nvidia-cublas==13.1.0.3 nvidia-cudnn-cu13==9.19.0.56",
}
PAIRS = [
    ("vllm==0.11.0", "550.54.15", "9.0", "runs"),
    ("vllm==0.11.0", "550.54.15", "7.0", "runs"),
    ("vllm==0.33.0", "575.57.08", "8.0", "refused"),
    ("vllm==0.33.0", "580.95.05", "10.3", "runs"),
    ("vllm==0.33.0 torch==2.14.0", "580.95.05", "7.0", "refused"),
    ("vllm==0.8.5 T26", "550.90.07", "10.0", "refused"),
    ("sglang==0.5.5", "580.95.05", "9.0", "unknown"),
    ("sglang==0.5.5", "470.82.01", "3.7", "unknown"),
    ("flashinfer-python==0.5.0 T28", "580.95.05", "9.0", "unknown"),
    ("flashinfer-python==0.5.0 T28", "470.82.01", "8.0", "refused"),
    ("xformers==0.0.35 torch==2.10.0", "580.95.05", "8.9", "runs"),
    ("xformers==0.0.35 torch==2.10.0", "580.95.05", "7.0", "refused"),
    ("bitsandbytes==0.48.2 T28", "580.95.05", "12.0", "runs"),
    ("bitsandbytes==0.48.2 T28", "550.54.15", "6.1", "refused"),
    ("faiss-gpu-cu12==1.13.2", "580.95.05", "9.0", "refused"),
    ("faiss-gpu-cu12==1.13.2", "535.161.08", "8.9", "runs"),
    ("faiss-gpu-cu12==1.8.0.2", "535.161.08", "9.0", "runs"),
    ("faiss-gpu-cu12==1.13.2", "515.65.01", "8.0", "refused"),
    ("cupy-cuda13x[ctk]==14.2.0", "580.95.05", "8.6", "runs"),
    ("cupy-cuda13x[ctk]==14.2.0", "575.57.08", "8.6", "refused"),
    ("cupy-cuda13x[ctk]==14.2.0", "580.95.05", "7.0", "refused"),
    ("cupy-cuda12x[ctk]==13.6.0", "525.85.12", "6.1", "unknown"),
    ("cudf-cu12==26.10.0", "535.161.08", "7.0", "runs"),
    ("cudf-cu12==26.10.0", "535.161.08", "6.1", "refused"),
    ("cudf-cu13==26.10.0", "580.95.05", "7.0", "refused"),
    ("cudf-cu13==26.10.0", "580.95.05", "12.1", "runs"),
    ("jax[cuda13]==0.10.2", "580.95.05", "7.5", "runs"),
    ("jax[cuda13]==0.10.2", "580.95.05", "7.0", "refused"),
    ("jax[cuda12]==0.7.2", "525.60.13", "5.2", "runs"),
    ("jax[cuda12]==0.7.2", "515.43.04", "8.0", "refused"),
    ("tensorflow[and-cuda]==2.20.0", "550.54.15", "9.0", "runs"),
    ("tensorflow[and-cuda]==2.20.0", "580.95.05", "5.2", "refused"),
    ("tensorflow[and-cuda]==2.19.0", "470.57.02", "8.0", "refused"),
    ("onnxruntime-gpu[cuda,cudnn]==1.30.0", "580.95.05", "10.0", "refused"),
    ("onnxruntime-gpu[cuda,cudnn]==1.30.0", "580.95.05", "8.9", "runs"),
    ("onnxruntime-gpu[cuda,cudnn]==1.22.0", "535.161.08", "6.1", "runs"),
    ("onnxruntime-gpu[cuda,cudnn]==1.22.0", "580.95.05", "12.0", "runs"),
    ("paddlepaddle-gpu==2.6.2", "470.82.01", "3.7", "unknown"),
    ("nvidia-dali-cuda130==2.0.0", "580.95.05", "8.0", "runs"),
    ("nvidia-dali-cuda130==2.0.0", "550.54.15", "8.0", "refused"),
    ("nvidia-dali-cuda120==2.0.0", "550.54.15", "7.0", "runs"),
    ("tensorrt==11.4.0", "580.95.05", "7.0", "refused"),
    ("tensorrt==11.4.0", "580.95.05", "9.0", "runs"),
    ("tensorrt==11.4.0", "570.124.06", "9.0", "refused"),
    ("tensorrt-cu12==11.4.0", "550.54.15", "8.0", "runs"),
    ("mamba-ssm==2.2.6 T28", "550.54.15", "8.0", "unknown"),
    ("mamba-ssm==2.2.6 T28", "450.80.02", "8.0", "refused"),
    ("deepspeed==0.17.0 T28", "535.161.08", "8.0", "runs"),
    ("lightgbm==4.6.0", "535.161.08", "8.0", "unknown"),
    ("lightgbm==4.6.0 T28", "535.161.08", "8.0", "runs"),
    ("xgboost==2.1.3 nvidia-nccl-cu12==2.23.4", "470.82.01", "8.0", "refused"),
    ("xgboost==3.4.1 nvidia-nccl-cu13==2.28.9", "580.95.05", "6.0", "refused"),
    ("ctranslate2==4.6.0 nvidia-cublas-cu12==12.8.4.1 nvidia-cudnn-cu12==9.10.2.21", "535.161.08", "8.6", "runs"),
    ("spconv-cu120==2.3.6", "470.82.01", "8.0", "refused"),
    ("spconv-cu120==2.3.6", "535.161.08", "8.0", "unknown"),
    ("pytorch3d==0.7.8 T28", "550.54.15", "8.0", "unknown"),
    ("kaolin==0.17.0 T28", "550.54.15", "8.0", "unknown"),
    ("warp-lang==1.19.0", "580.95.05", "8.6", "runs"),
    ("warp-lang==1.19.0", "550.54.15", "8.6", "refused"),
    ("torch==2.8.0+cu126 torch-scatter==2.1.2+pt28cu126", "550.54.15", "6.0", "runs"),
    ("torch==2.8.0+cu126 torch-scatter==2.1.2+pt27cu126", "550.54.15", "6.0", "refused"),
    ("intel-extension-for-pytorch==2.8.0 torch==2.8.0+xpu", "550.54.15", "8.0", "refused"),
    ("torch==2.8.0+rocm6.4", "550.54.15", "8.0", "refused"),
    ("T28", "470.256.02", "3.7", "refused"),
    ("T28", "570.124.06", "10.0", "runs"),
    ("T28", "565.57.01", "12.0", "refused"),
    ("T211", "580.95.05", "7.5", "runs"),
    ("T211", "570.172.08", "8.0", "refused"),
    ("T211", "580.95.05", "12.1", "runs"),
    ("T211", "615.31", "8.0", "runs"),
    ("T28", "590.48.01", "7.0", "refused"),
    ("T28", "580.95.05", "7.0", "runs"),
    ("torch==2.5.1+cu118", "450.80.02", "8.0", "runs"),
    ("torch==2.5.1+cu118", "440.33.01", "8.0", "refused"),
    ("torch==2.3.1", "525.60.13", "8.9", "runs"),
    ("torch==2.0.1", "515.65.01", "9.0", "refused"),
    ("torch==2.14.1", "580.95.05", "6.1", "refused"),
    ("torch==2.14.1+cu126", "580.95.05", "6.1", "runs"),
    ("torch==2.14.1+cu126", "580.95.05", "12.0", "refused"),
    ("T28", "35.4.1", "8.7", "unknown"),
    ("T211", "580.00", "11.0", "unknown"),
    ("T28", "550.54.15", "8.6", "runs"),
    ("T28", "550.54.15", "8.0", "runs"),
    ("T211", "640.10", "8.0", "runs"),
    ("T211", "580.95.05", None, "unknown"),
    ("torch==2.16.0", "640.10", "9.0", "unknown"),
    ("numpy==2.0", "580.95.05", "9.0", "unknown"),
    ("cuml-cu12==26.8.0 T28", "550.54.15", "8.0", "runs"),
    ("numba-cuda==0.20.0 nvidia-cuda-runtime-cu12==12.8.90", "550.54.15", "8.0", "unknown"),
    ("transformer-engine==2.8.0", "580.95.05", "9.0", "unknown"),
    ("flash-attn==2.8.3 T28", "580.95.05", "9.0", "runs"),
    ("flash-attn==2.8.3 T28", "580.95.05", "7.5", "refused"),
    ("tensorrt-llm==1.0.0", "470.82.01", "8.0", "unknown"),
    ("onnxruntime-gpu==1.22.0 onnxruntime==1.22.0", "550.54.15", "8.0", "refused"),
    ("torch==2.8.0 torchvision==0.23.0 triton==3.4.0", "550.54.15", "8.0", "runs"),
]


@pytest.mark.bank(kind=lambda pair: (pair[0].partition("=")[0], pair[3]))
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]} on {pair[1]}, {pair[2]}")
def test_the_answer_is_what_the_documents_say(tmp_path: Path, pair: tuple[str, str, str | None, str]) -> None:
    lock, driver, capability, expected = pair
    (tmp_path / "lock.txt").write_text("\n".join(" ".join(WHOLE.get(word, word) for word in lock.split()).split()))
    fleet = Fleet((HostProfile("h", driver, (HostGpu("GPU", capability),), AMD),), "hosts/", committed=True)
    found = fit_lock(read_foreign_lock(tmp_path / "lock.txt", AMD), fleet, AMD)
    assert found.outcome == expected, [limit.why for limit in found.hosts[0].limits]
