"""The parts of the self-test, the elementary ones first: those further down are built of them."""

from .part import Part
from .parts.codec import DecoderCheck, EncoderCheck
from .parts.device import LimitCheck, SpeedCheck
from .parts.elementary import NormCheck, RopeCheck
from .parts.frames import InPlaceCheck, WaitCheck, WarmUpCheck
from .parts.language import CompiledCheck, ConditionCheck, DepthCheck, TemporalCheck
from .parts.pauses import PauseCheck
from .parts.products import ProductCheck, RecipeCheck
from .parts.residual import ResidualNormCheck
from .parts.rings import RingCheck
from .parts.sampling import SamplingCheck
from .parts.talks import BatchCheck, HeliumCheck, NanoCheck

QUANTIZED = ("q8", "q6", "q5", "q4", "q3", "mxfp4", "mxfp8", "nvfp4")


def parts() -> list[Part]:
    return [
        ProductCheck(),
        NormCheck(),
        RopeCheck(),
        RingCheck(),
        RingCheck(kv_bits=8),
        SamplingCheck(),
        *(RecipeCheck(recipe) for recipe in QUANTIZED),
        TemporalCheck(),
        DepthCheck(),
        ConditionCheck(),
        CompiledCheck(),
        NanoCheck(),
        BatchCheck(),
        HeliumCheck(),
        EncoderCheck(),
        DecoderCheck(),
        WarmUpCheck(),
        WaitCheck(),
        InPlaceCheck(),
        ResidualNormCheck(),
        LimitCheck(),
        SpeedCheck(),
        PauseCheck(),
    ]
