"""Kernels by their names, as they come off GPUs and out of torch.compile."""

import pytest
import torch

from lingbot_serve.bench.kernel_kinds import KernelKind, kernel_kind
from lingbot_serve.bench.kernels import kernel_shares


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", KernelKind.COMMUNICATION),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", KernelKind.ATTENTION),
        (
            "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<...>>>",
            KernelKind.ATTENTION,
        ),
        ("nvjet_tst_256x128_64x4_2x1_v_bz_coopA_bias_TNT", KernelKind.GEMM),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", KernelKind.GEMM),
        ("aten::addmm", KernelKind.GEMM),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", KernelKind.ATTENTION),
        ("triton_red_fused__to_copy_add_mul_native_layer_norm_0", KernelKind.ELEMENTWISE),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>",
            KernelKind.ELEMENTWISE,
        ),
        ("Memcpy DtoD (Device -> Device)", KernelKind.COPY),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<...>", KernelKind.COPY),
        ("aten::mul", KernelKind.ELEMENTWISE),
        ("aten::copy_", KernelKind.COPY),
    ],
)
def test_kinds(name, kind):
    assert kernel_kind(name) is kind


def test_shares_of_a_matrix_product():
    left = torch.randn(256, 256)
    shares = kernel_shares(lambda: left @ left, torch.device("cpu"))
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert shares["gemm"] > 0.5
    assert shares["attention"] == 0
