"""Training with Lightning in a process of its own: which items each rank saw, by batch.

    python lightning_run.py STORE WORK OUT volumes|cache DEVICES STOP

STOP 0 trains two epochs; n is killed after n steps, when a checkpoint was saved; -1 goes on from there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from radiobject_assets import MemoryBudget, build_patch_cache
from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.store import RadiObject, create_snapshot, list_snapshots
from radiobject_assets.training import create_inference_dataloader, create_training_dataloader, patch_loader


class Net(LightningModule):
    def __init__(self, out: Path, stop: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 1, 1)
        self.out, self.stop = out, stop

    def training_step(self, batch, _):
        if self.global_step == self.stop > 0:
            os._exit(0)
        if "index" in batch:
            items = batch["index"].tolist()
        else:
            items = (batch["idx"] * 4 + batch["patch_idx"]).tolist()
        with (self.out / f"rank{self.global_rank}.txt").open("a") as file:
            file.write(f"{items}\n")
        return self.layer(batch["image"]).mean()

    def predict_step(self, batch, _):
        return batch["idx"].item()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-9)


def main() -> None:
    store, work, out, kind, devices, stop = sys.argv[1:]
    radi = RadiObject(store)
    if kind == "volumes":
        loader = create_training_dataloader(radi.ct, batch_size=2, patch_size=(9, 8, 7), patches_per_volume=4)
    else:
        if not any(snapshot.name == "lightning" for snapshot in list_snapshots(store)):
            create_snapshot(store, "lightning")
        info = build_patch_cache(
            store,
            snapshot="lightning",
            subjects=["sub-1", "sub-2", "sub-3"],
            patches=PatchesConfig(image="ct", size_voxels=(9, 8, 7), per_volume=4),
            out_dir=Path(work) / "cache",
            budget=MemoryBudget(256),
        )
        loader = patch_loader(info.path, batch_size=2)
    save = ModelCheckpoint(work, "middle", every_n_train_steps=max(1, int(stop)), save_top_k=-1)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=int(devices),
        strategy="ddp" if int(devices) > 1 else "auto",
        logger=False,
        callbacks=[save] if int(stop) > 0 else [],
        enable_checkpointing=int(stop) > 0,
        enable_progress_bar=False,
        default_root_dir=work,
    )
    model = Net(Path(out), int(stop))
    middle = Path(work) / "middle.ckpt" if int(stop) < 0 else None
    trainer.fit(model, loader, ckpt_path=middle, weights_only=False)
    if int(devices) == 1:
        predicted = trainer.predict(model, create_inference_dataloader(radi.ct))
        assert predicted == [0, 1, 2], predicted


if __name__ == "__main__":
    main()
