"""``AnchorViT``: one anchor alone, the baseline of a stitched model."""

from collections.abc import Mapping, Sequence

from mmsnnet.models.backbone import AnchorBackbone
from mmsnnet.models.compilation import compile_parts
from mmsnnet.registry import MODELS, register


@register(MODELS)
class AnchorViT(AnchorBackbone):
    """One timm ViT alone, with the features and options it has as an anchor. It has a single route.

    Args:
        anchor: ``model`` and other arguments of ``timm.create_model``, or ``init_cfg``, as for ``StitchedViT``.
        out_indices: blocks (0-based) after which an output level leaves.
        frozen: keep the ViT as it is and in evaluation mode: only neck and heads train.
        final_norm, out_type, output_cls_token, with_cp, norm_eval, compile_blocks, init_cfg: as for ``StitchedViT``.
    """

    def __init__(
        self,
        anchor: dict,
        out_indices: Sequence[int] = (-1,),
        final_norm: bool = False,
        out_type: str = 'featmap',
        output_cls_token: bool = False,
        frozen: bool = False,
        with_cp: bool = False,
        norm_eval: bool = False,
        compile_blocks: bool | Mapping = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            [anchor],
            out_indices,
            final_norm=final_norm,
            out_type=out_type,
            output_cls_token=output_cls_token,
            with_cp=with_cp,
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        (self.route,) = self.space
        self.plan = self.plan_of(self.route)
        if frozen:
            self._freeze([0])
        compile_parts(self, compile_blocks)
