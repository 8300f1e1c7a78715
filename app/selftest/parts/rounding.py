"""What rounding may do, relative to the largest number of a result.

Measured on MLX's CPU backend against PyTorch and numpy in double precision, where the halves are
emulated: the comments say how much. A GPU sums in another order and has other exponentials and
cosines, so a multiple of that is allowed: eight times for halves; more for float32, where it is
still far below what TF32 (1e-3) or a wrong number does.
"""

OF_SUM = {"fp32": 1e-5, "fp16": 4e-3, "bf16": 3e-2}  # of a product: 6e-7, 5e-4, 4e-3
# MLX's CPU backend adds halves in halves there: 5e-7, 3e-3, 4.5e-2.
OF_CPU_QUANTIZED = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 0.2}
OF_MODEL = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 6e-2}  # of logits: 1e-6, 1e-3, 8e-3
OF_ROW = 8e-3  # rows of mxfp4's kind are summed in bf16: 2e-3
OF_NORM = {"fp32": 1e-5, "fp16": 4e-3, "bf16": 3e-2}  # 3e-7, 5e-4, 4e-3
OF_ATTENTION = {"fp32": 3e-5, "fp16": 8e-3, "bf16": 6e-2}  # 2e-6, 1e-3, 7e-3
OF_EIGHT_BITS = 4e-3  # codes at the edge of two values, of another rounding: none
OF_CODES = 0.01  # the share of codes that a near tie may flip
OF_SOUND = 1e-4  # 6e-7
