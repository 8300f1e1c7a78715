"""Mimis with Kyutai's layers and other widths: graphs are the same, arrays small."""

from dataclasses import replace

from moshi_mlx.mimi import MimiConfig

WIDTH = 64  # one head, as wide as each of Kyutai's; SEANet's too, so that nothing stands between


def narrow_config(n_filters: int = 2) -> MimiConfig:
    """As many layers, codebooks and frames of context as Kyutai's, all narrow."""
    kyutai = MimiConfig()
    return replace(
        kyutai,
        seanet=replace(kyutai.seanet, dimension=WIDTH, n_filters=n_filters),
        transformer=replace(
            kyutai.transformer,
            d_model=WIDTH,
            num_heads=1,
            dim_feedforward=2 * WIDTH,
            input_dimension=WIDTH,
            output_dimensions=(WIDTH,),
        ),
        quantizer=replace(
            kyutai.quantizer, dimension=16, bins=64, input_dimension=WIDTH, output_dimension=WIDTH
        ),
    )
