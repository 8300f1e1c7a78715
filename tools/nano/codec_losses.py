"""Losses of the codec: multi-scale spectra and periodicity of the sound, phones and pitch read off the quantized latent."""

import torch
import torch.nn.functional as F
from phones import IGNORE, NUM_PHONES
from torch import nn

MEL_FLOOR = 1e-3


def mel_filters(n_fft: int, n_mels: int, rate_hz: int = 24_000) -> torch.Tensor:
    """[n_mels, n_fft // 2 + 1] triangles, each summing to about 1."""
    mel = lambda f: 2595 * torch.log10(1 + f / 700)  # noqa: E731
    points = torch.linspace(
        float(mel(torch.tensor(40.0))), float(mel(torch.tensor(11_000.0))), n_mels + 2
    )
    edges = 700 * (10 ** (points / 2595) - 1)
    freqs = torch.linspace(0, rate_hz / 2, n_fft // 2 + 1)
    up = (freqs - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - freqs) / (edges[2:] - edges[1:-1])[:, None]
    weights = torch.clamp(torch.minimum(up, down), min=0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)


class SpectralLoss(nn.Module):
    """Log-mel and log-STFT L1 at several windows; the long ones resolve the harmonics, so they carry the pitch."""

    SCALES = ((512, 128, 40), (1024, 256, 64), (2048, 512, 80))

    def __init__(self) -> None:
        super().__init__()
        for n_fft, _, n_mels in self.SCALES:
            self.register_buffer(f"mel{n_fft}", mel_filters(n_fft, n_mels))
            self.register_buffer(f"window{n_fft}", torch.hann_window(n_fft))

    def forward(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """out, target [B, samples] -> [B]."""
        total = torch.zeros(len(out))
        for n_fft, hop, _ in self.SCALES:
            window, mel = getattr(self, f"window{n_fft}"), getattr(self, f"mel{n_fft}")
            both = torch.cat([out, target])
            spec = torch.stft(both, n_fft, hop, window=window, return_complex=True)
            power = spec.real**2 + spec.imag**2 + 1e-9
            magnitude = power.sqrt() * (2.0 / n_fft) * 8.0
            mels = torch.log(torch.matmul(mel, magnitude) + MEL_FLOOR)
            logs = torch.log(magnitude + MEL_FLOOR)
            x, y = mels.chunk(2)
            total = total + (x - y).abs().mean((1, 2))
            x, y = logs.chunk(2)
            cut = int(n_fft * 5000 / 24000)  # up to 5 kHz
            total = total + 0.5 * (x - y)[:, :cut].abs().mean((1, 2))
        return total / len(self.SCALES)


class LatentHeads(nn.Module):
    """Reads two phones a frame off the first codebook and off all of them, and the pitch off all of them."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv1d(dimension, 192, 1), nn.ReLU(), nn.Conv1d(192, 2 * NUM_PHONES, 1)
        )
        self.every = nn.Sequential(
            nn.Conv1d(dimension, 192, 1), nn.ReLU(), nn.Conv1d(192, 2 * NUM_PHONES, 1)
        )
        self.pitch = nn.Sequential(nn.Conv1d(dimension, 96, 1), nn.ReLU(), nn.Conv1d(96, 4, 1))

    @staticmethod
    def _phones(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, _, frames = logits.shape
        logits = (
            logits.view(batch, 2, NUM_PHONES, frames)
            .permute(0, 3, 1, 2)
            .reshape(batch, 2 * frames, NUM_PHONES)
        )
        loss = F.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORE, label_smoothing=0.05
        )
        spoken = labels > 0
        return loss, (logits.argmax(-1) == labels)[spoken].float().mean()

    def forward(
        self, first: torch.Tensor, every: torch.Tensor, phones: torch.Tensor, pitch: torch.Tensor
    ) -> dict:
        """first, every [B, D, frames]; phones, pitch [B, 2 * frames] -> losses and accuracies."""
        loss_first, right_first = self._phones(self.first(first), phones)
        loss_every, right_every = self._phones(self.every(every), phones)
        out = self.pitch(every)
        out = (
            torch.stack([out[:, :2], out[:, 2:]], -1).transpose(1, 2).reshape(len(pitch), -1, 2)
        )  # [B, 2F, 2]
        known, voiced = ~torch.isnan(pitch), pitch > -8
        loss_pitch = torch.zeros(())
        if known.any() and voiced.any():
            loss_pitch = F.binary_cross_entropy_with_logits(
                out[..., 0][known], voiced[known].float()
            )
            loss_pitch = loss_pitch + 3 * F.smooth_l1_loss(
                out[..., 1][voiced], pitch[voiced], beta=0.1
            )
        return {
            "phone1": loss_first, "phone8": loss_every, "pitch": loss_pitch,
            "right1": right_first, "right8": right_every,
        }  # fmt: skip


class PitchLoss(nn.Module):
    """Autocorrelation of the low band, as it is for the target: what the ear and F0 trackers call the pitch.

    Spectral losses leave the decoder indifferent to small shifts of low harmonics; here the target's lag is a class.
    """

    WINDOW, HOP, FFT = 1536, 480, 4096
    LAGS = (70, 360)  # 67 to 343 Hz
    BAND_HZ, SHARPNESS, VOICED = 900.0, 12.0, 0.55

    def __init__(self, rate_hz: int = 24_000) -> None:
        super().__init__()
        window = torch.hann_window(self.WINDOW)
        self.register_buffer("window", window)
        power = torch.fft.rfft(window, self.FFT).abs() ** 2
        own = torch.fft.irfft(power)[: self.LAGS[1]]
        self.register_buffer("own", own / own[0])
        freqs = torch.linspace(0, rate_hz / 2, self.FFT // 2 + 1)
        self.register_buffer("band", torch.sigmoid((self.BAND_HZ - freqs) / 60))

    def periodicity(self, pcm: torch.Tensor) -> torch.Tensor:
        """[B, samples] -> [B, frames, lags], 1 for a perfect period; quiet frames tend to 0."""
        frames = pcm.unfold(1, self.WINDOW, self.HOP) * self.window
        spectrum = torch.fft.rfft(frames, self.FFT)
        power = (spectrum.real**2 + spectrum.imag**2) * self.band
        curve = torch.fft.irfft(power)[..., : self.LAGS[1]]
        return curve[..., self.LAGS[0] :] / (curve[..., :1] + 1e-3) / self.own[self.LAGS[0] :]

    def forward(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """out, target [B, samples] -> [B]: cross entropy of lags and L1 of the curves where the target is voiced."""
        with torch.no_grad():
            wanted = self.periodicity(target)
            voiced = (wanted.amax(-1) > self.VOICED).float()
        curve = self.periodicity(out)
        classes = (self.SHARPNESS * wanted).softmax(-1)
        cross = -(classes * (self.SHARPNESS * curve).log_softmax(-1)).sum(-1)
        floor = -(classes * classes.clamp(min=1e-9).log()).sum(-1)
        each = (cross - floor) + (curve - wanted).abs().mean(-1)
        return (each * voiced).sum(1) / voiced.sum(1).clamp(min=1)
