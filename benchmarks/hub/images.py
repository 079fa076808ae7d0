"""Backbones for images, and for images with text."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.hub.base import Size, blocks, hub


def _image(size: Size, times: int = 1) -> tuple[int, int, int]:
    return (times * size.image, times * size.image, 3)


def _patches(name: str, size: Size, **more: Any) -> Any:
    return hub(name)(image_shape=_image(size), patch_size=size.patch, **blocks(size), **more)


def _vit(size: Size) -> Any:
    found = blocks(size)
    inner = found.pop("intermediate_dim")
    return hub("ViTBackbone")(
        image_shape=_image(size), patch_size=size.patch, mlp_dim=inner, **found
    )


def _clip_vision(size: Size) -> Any:
    return _numbered(_patches("CLIPVisionEncoder", size))


def _numbered(model: Any) -> Any:
    """CLIP keeps the numbers of positions as a weight, which only comes with trained ones."""
    for variable in model.variables:
        if variable.name == "position_ids":
            variable.assign(np.arange(variable.shape[-1])[None])
    return model


def _text(name: str, size: Size, **more: Any) -> Any:
    found = blocks(size) | {"embedding_dim": size.width, "vocabulary_size": size.vocabulary}
    return hub(name)(**found, max_sequence_length=size.length, **more)


def _clip(size: Size) -> Any:
    vision, text = _patches("CLIPVisionEncoder", size), _text("CLIPTextEncoder", size)
    return _numbered(hub("CLIPBackbone")(vision, text, projection_dim=size.width))


def _siglip(size: Size) -> Any:
    vision = _patches("SigLIPVisionEncoder", size)
    # Its texts are all of one length, though its input does not say so: that of the engine's probe.
    text = _text("SigLIPTextEncoder", replace(size, length=32), projection_dim=size.width)
    return _numbered(hub("SigLIPBackbone")(vision, text))


def _mit(size: Size) -> Any:
    return hub("MiTBackbone")(
        image_shape=_image(size, 2),
        num_layers=2,
        layerwise_depths=[1, size.layers // 2],
        hidden_dims=[size.width // 2, size.width],
        layerwise_num_heads=[size.heads // 2, size.heads],
        layerwise_sr_ratios=[2, 1],
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        max_drop_path_rate=0.1,
    )


def _segformer(size: Size) -> Any:
    return hub("SegFormerBackbone")(image_encoder=_mit(size), projection_filters=size.width)


def _swin(size: Size) -> Any:
    return hub("SwinTransformerBackbone")(
        image_shape=_image(size, 2),
        patch_size=4,
        embed_dim=size.width // 2,
        depths=(1, size.layers // 2),
        num_heads=(size.heads // 2, size.heads),
        window_size=4,
    )


def _vit_det(size: Size) -> Any:
    return hub("ViTDetBackbone")(
        hidden_size=size.width,
        num_layers=size.layers,
        intermediate_dim=size.inner,
        num_heads=size.heads,
        global_attention_layer_indices=[size.layers - 1],
        image_shape=_image(size),
        patch_size=size.patch,
        num_output_channels=size.width,
        window_size=2,
    )


def _resnet(size: Size, block: str = "bottleneck_block") -> Any:
    return hub("ResNetBackbone")(
        image_shape=_image(size, 2),
        input_conv_filters=[64],  # Blocks of KerasHub's ResNet expect as many.
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, size.width],
        stackwise_num_blocks=[1, size.layers // 2],
        stackwise_num_strides=[1, 2],
        block_type=block,
    )


def _efficientnet(size: Size) -> Any:
    return hub("EfficientNetBackbone")(
        image_shape=_image(size, 2),
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, size.layers // 2],
        stackwise_input_filters=[32, 16],
        stackwise_output_filters=[16, size.width],
        stackwise_expansion_ratios=[1, 4],
        stackwise_strides=[1, 2],
        stackwise_block_types=["v1", "fused"],
    )


def _mobilenet(size: Size) -> Any:
    width, inner = size.width, size.inner
    return hub("MobileNetBackbone")(
        image_shape=_image(size, 2),
        stackwise_expansion=[[width], [inner, inner]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[width // 2], [width, width]],
        stackwise_kernel_size=[[3], [5, 5]],
        stackwise_num_strides=[[2], [2, 1]],
        stackwise_se_ratio=[[0.25], [None, 0.25]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1], [2, 2]],
        output_num_filters=inner,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=width // 2,
        depthwise_filters=width // 2,
        depthwise_stride=1,
        depthwise_residual=True,
        squeeze_and_excite=0.25,
        last_layer_filter=width,
    )


def _densenet(size: Size) -> Any:
    return hub("DenseNetBackbone")(
        image_shape=_image(size, 2),
        stackwise_num_repeats=[2, size.layers],
        compression_ratio=0.5,
        growth_rate=size.width // 4,
    )


def _vgg(size: Size) -> Any:
    filters = [size.width // 2, size.width]
    return hub("VGGBackbone")([1, 2], filters, image_shape=_image(size, 2))


def _xception(size: Size) -> Any:
    half, full = size.width // 2, size.width
    return hub("XceptionBackbone")(
        [[half, full], [full, full]], [True, False], image_shape=_image(size, 3)
    )


def _cspnet(size: Size) -> Any:
    return hub("CSPNetBackbone")(
        image_shape=_image(size, 2),
        stem_filters=size.width // 2,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, size.layers // 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[size.width // 2, size.width],
        block_type="dark_block",
        stage_type="csp",
        expand_ratio=[2.0, 1.0],
        bottle_ratio=[0.5, 1.0],
        block_ratio=[1.0, 0.5],
    )


def _hgnet(size: Size) -> Any:
    half, full = size.width // 2, size.width
    return hub("HGNetV2Backbone")(
        image_shape=_image(size, 2),
        depths=[1, size.layers // 2],
        embedding_size=half,
        hidden_sizes=[full, 2 * full],
        stem_channels=[3, half, half],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[[half, half, full, 1, 3, 3], [full, half, 2 * full, 1, 3, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
    )


def _deeplab(size: Size) -> Any:
    return hub("DeepLabV3Backbone")(
        image_encoder=_resnet(size),
        spatial_pyramid_pooling_key="P3",
        upsampling_size=2,
        dilation_rates=[2, 4],
        low_level_feature_key="P2",
        projection_filters=size.width,
        image_shape=_image(size, 2),
    )


IMAGES: Mapping[str, Callable[[Size], Any]] = MappingProxyType(
    {
        "ViT": _vit,
        "DeiT": partial(_patches, "DeiTBackbone"),
        "DINOv2": partial(_patches, "DINOV2Backbone", num_register_tokens=2),
        "DINOv3": partial(_patches, "DINOV3Backbone"),
        "ViTDet": _vit_det,
        "CLIP vision": _clip_vision,
        "CLIP": _clip,
        "SigLIP": _siglip,
        "MiT": _mit,
        "SegFormer": _segformer,
        "Swin": _swin,
        "ResNet": _resnet,
        "ResNet basic": partial(_resnet, block="basic_block"),
        "EfficientNet": _efficientnet,
        "MobileNet": _mobilenet,
        "DenseNet": _densenet,
        "VGG": _vgg,
        "Xception": _xception,
        "CSPNet": _cspnet,
        "HGNetV2": _hgnet,
        "DeepLabV3": _deeplab,
    }
)
