"""The side of the library `adapters` in benchmarks/interop.py; see there.

Runs in the environment of requirements-bench.txt. In --folder it finds ids.npz and our adapter in
`ours`, and writes logits.npz, our adapter saved again (`again-bin`, `again-safetensors`) and its
own default adapter and head with random weights (`default-bin`, `default-safetensors`).
"""
import argparse
import pathlib

import numpy as np
import torch
from adapters import AutoAdapterModel

BATCH, SEED, STDDEV = 32, 0, 0.1


def logits_of(model, ids):
    """Float32 [examples, classes] of the active adapter and head."""
    tensors = [torch.from_numpy(ids[name].astype(np.int64))
               for name in ("input_ids", "input_mask", "segment_ids")]
    model.eval()
    with torch.inference_mode():
        return torch.cat([
            model(input_ids=words, attention_mask=mask, token_type_ids=segments).logits
            for words, mask, segments in zip(*(torch.split(tensor, BATCH) for tensor in tensors),
                                             strict=True)]).numpy()


def with_our_adapter(base, folder, use_safetensors):
    """The base with our adapter and head, loaded by .safetensors or by .bin."""
    model = AutoAdapterModel.from_pretrained(base)
    name = model.load_adapter(str(folder / "ours"), use_safetensors=use_safetensors,
                              set_active=True)
    return model, name


def with_default_adapter(base):
    """The base with the library's default adapter and head, every weight of them random."""
    torch.manual_seed(SEED)
    model = AutoAdapterModel.from_pretrained(base)
    model.add_adapter("default", config="seq_bn", set_active=True)
    model.add_classification_head("default", num_labels=3)
    for key, value in model.named_parameters():
        if ".adapters." in key or key.startswith("heads."):
            torch.nn.init.normal_(value, std=STDDEV)
    return model, "default"


def main():
    """Computes and saves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="Hugging Face BERT folder")
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    options = parser.parse_args()
    ids, found = np.load(options.folder / "ids.npz"), {}
    for kind in ("bin", "safetensors"):
        model, name = with_our_adapter(options.base, options.folder, kind == "safetensors")
        found[f"ours-{kind}"] = logits_of(model, ids)
        model.save_adapter(str(options.folder / f"again-{kind}"), name, with_head=True,
                           use_safetensors=kind == "safetensors")
    model, name = with_default_adapter(options.base)
    found["default"] = logits_of(model, ids)
    for kind in ("bin", "safetensors"):
        model.save_adapter(str(options.folder / f"default-{kind}"), name, with_head=True,
                           use_safetensors=kind == "safetensors")
    np.savez(options.folder / "logits.npz", **found)


if __name__ == "__main__":
    main()
