"""What to do with a model file that is refused: the conversion that works, and the way out."""

from pathlib import PurePosixPath

from mlship.project.formats import ModelFormat

_CONVERSIONS: dict[ModelFormat, str] = {
    "empty": "write or fetch {path} again; it may be the rest of an interrupted download",
    "lfs-pointer": "run `git lfs pull`",
    "pickle": "convert it once, where it was trained. scikit-learn: `skl2onnx.to_onnx(model, X[:1])` and write "
    "`.SerializeToString()` to {stem}.onnx; XGBoost: `model.save_model('{stem}.ubj')`; LightGBM: "
    "`model.booster_.save_model('{stem}.txt')`; plain arrays: `numpy.savez('{stem}.npz', **arrays)`",
    "torch": "convert it once: `from safetensors.torch import save_file; "
    "save_file(torch.load('{path}', weights_only=True, map_location='cpu'), '{stem}.safetensors')` "
    "(TorchScript: `torch.onnx.export` the model to {stem}.onnx)",
    "numpy-objects": "save plain numbers instead: `numpy.save('{path}', array.astype('float32'), allow_pickle=False)`",
    "keras-lambda": "replace the Lambda by a Layer class of your own and save again, or export the model to ONNX",
    "unknown": "export the model to ONNX or safetensors",
}
_WAY_OUT = """. Where somebody answers for this file, say so in mlship.yaml:
  model:
    allow_pickle:
      - path: {path}
        sha256: {digest}
        reason: who checked it, and why it stays"""


def recipe(kind: ModelFormat, path: str, digest: str) -> str:
    """The next step for a refused file; with a digest also the entry that would allow it."""
    stem = str(PurePosixPath(path).with_suffix(""))
    text = _CONVERSIONS[kind].format(path=path, stem=stem)
    return text + _WAY_OUT.format(path=path, digest=digest) if digest else text
