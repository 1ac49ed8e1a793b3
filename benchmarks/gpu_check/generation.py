"""Generation with and without the cache."""

from __future__ import annotations

from benchmarks.gpu_check.check import Check, forget, resolved


def generation(check: Check) -> None:
    """With and without the cache, with the model that has learnt something if there is one."""
    import torch

    from benchmarks.kv_cache import compare
    from trainer.model.language_model import LanguageModel

    forget()
    model = check.model
    if model is None:
        model = LanguageModel(resolved(check.settings()).model)
        model.initialize(0)
        model.to(check.device)
    model.eval()
    new_tokens = 12 if check.smoke else 256
    before = torch.get_float32_matmul_precision()
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        speeds = compare(model, new_tokens, 1 if check.smoke else 2)
        check.report.add(
            "Generation",
            f"{new_tokens} tokens, matmul precision {precision}",
            f"{speeds.cached:.0f} tok/s",
            f"{speeds.cached / speeds.uncached:.1f}x uncached ({speeds.uncached:.0f} tok/s), "
            f"tokens {'equal' if speeds.equal else 'DIFFER'}",
        )
    torch.set_float32_matmul_precision(before)
