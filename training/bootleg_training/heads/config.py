"""What a checkpoint says about one of its segmentation heads; the checkpoint's ``config.json`` holds it by name."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bootleg_bundle.manifest import Count, PixelClass

Kind = Literal["linear", "layers"]
TokenOutput = Literal["patch_tokens", "layer_tokens"]


class HeadConfig(BaseModel):
    """A head's shape and what its channels mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="linear: a linear map of the patch tokens; layers: convolutions on hidden layers")
    size: Count = Field(description="the encoder's input side in pixels for which it was trained")
    channels: Count = Field(64, description="width behind the projection; kind `layers` only")
    upscale: Count = Field(1, description="logits along one side of a patch")
    classes: tuple[PixelClass, ...] = Field(min_length=2, max_length=255, description="in the order of the channels")

    @model_validator(mode="after")
    def _linear_has_the_patches_grid(self) -> Self:
        if self.kind == "linear" and self.upscale != 1:
            raise ValueError(f"upscale {self.upscale}: a linear head has one row of logits for each patch")
        return self

    @property
    def input(self) -> TokenOutput:
        """The encoder graph's output that feeds it."""
        return "patch_tokens" if self.kind == "linear" else "layer_tokens"
