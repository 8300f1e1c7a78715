"""Names that programs outside the repository import: module -> its names."""

# What a module exported before it became a folder stays.
PUBLIC = {
    "moshi_mlx": (
        "Answer EarlyReply Moshi MoshiError Reply Session Word __version__ audio load load_helium "
        "load_lm load_mimi save_lm"
    ),
    "moshi_mlx.config": (
        "ConditionerConfig DepthConfig EMPTY FuserConfig LmConfig NOT_GENERATED NO_INPUT "
        "SamplingConfig TransformerConfig load_config parse_config read_config suggest"
    ),
    "moshi_mlx.audio": "read write",
    "moshi_mlx.codec": (
        "BACKLOG_MAX BINS Codec CodecStream FRAMES_MAX MEASURE_SECONDS OVERLAP_FRAMES "
        "RustCodec RustStream "
        "checked_codes checked_frame checked_pcm choose_codec frame_seconds "
        "rust_available"
    ),
    "moshi_mlx.mimi": "Mimi MimiConfig MimiStream load_mimi",
    "moshi_mlx.helium": "Helium HeliumConfig load_helium",
    "moshi_mlx.errors": "AudioError ConfigError DownloadError MoshiError WeightsError",
    "moshi_mlx.hub": "Download LICENCE_UNKNOWN NANO REPOSITORY plan resolve",
    "moshi_mlx.memory": "CACHE_LIMIT_BYTES Limits limit_memory limits_for metal_info restore",
    "moshi_mlx.moshi": (
        "EarlyReply Moshi Reply Session check_codec check_frame load shares_evaluation"
    ),
    "moshi_mlx.generator": "Forced LmGenerator MAX_SEED Step Submitted check_seed override",
    "app.cli": "COMMANDS main",
    "quantize.cli": "configure run",
}
